"""What holds for the services that are not ours as well: health, reflection and channelz."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from faultlane_server.runs import TooManyStreams
from faultlane_server.service.access import Access
from faultlane_server.service.calls import Context
from faultlane_server.service.errors import RequestError
from faultlane_server.service.handlers import bytes_of_request
from faultlane_server.service.status import errors_as_status

WITH_TOKEN = ("/grpc.reflection.", "/grpc.channelz.")  # health is for everybody
OURS = "/faultlane."  # `handlers` sees to these

OPEN_MAX = 512  # calls to the health at once: whoever needs no token could take all there are
RETRY_AFTER_S = 1.0


class Guard(grpc.aio.ServerInterceptor):
    """Refuses calls without the right token, and ends calls whose request does not come."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._open = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        if method.startswith(WITH_TOKEN):
            try:
                self._access.admit(method, handler_call_details.invocation_metadata)
            except RequestError as error:
                return _refusal(error)
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or method.startswith(OURS):
            return handler
        return self._within_time(handler)

    def _within_time(self, handler: Any) -> Any:
        """Let a method with one request wait for it as long as ours do."""
        method = handler.unary_stream if handler.response_streaming else handler.unary_unary

        async def answer(_: object, context: Context) -> Any:
            async with errors_as_status(context):
                with self._one_more():
                    content = await bytes_of_request(context)
                    if isinstance(content, bytes):
                        return await method(handler.request_deserializer(content), context)
            return None

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(answer, None, handler.response_serializer)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._open >= OPEN_MAX:
            raise TooManyStreams(self._open, RETRY_AFTER_S)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


def _refusal(error: RequestError) -> Any:
    async def refuse(_: object, context: Context) -> None:
        async with errors_as_status(context):
            raise error

    return grpc.stream_stream_rpc_method_handler(refuse)
