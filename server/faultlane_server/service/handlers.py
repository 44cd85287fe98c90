"""Binds the methods of a servicer to the rpcs of a service.

Everything that is the same for each rpc stands here: a request that cannot be
read, whose call it is, an error that must become a status, and responses that are
bytes already.
"""

from contextlib import aclosing, suppress
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from faultlane_server.scenario import Violation
from faultlane_server.service.errors import InvalidRequest
from faultlane_server.service.identity import identify
from faultlane_server.service.status import Context, errors_as_status


class _Unreadable:
    """Stands for a request whose bytes are no message."""


def handlers_of(servicer: object, service: ServiceDescriptor) -> grpc.GenericRpcHandler:
    """Return handlers that call the method of `servicer` that has the name of the rpc."""
    return grpc.method_handlers_generic_handler(
        service.full_name,
        {rpc.name: _handler(getattr(servicer, rpc.name), rpc) for rpc in service.methods},
    )


def _handler(method: Any, rpc: MethodDescriptor) -> Any:
    request_class = GetMessageClass(rpc.input_type)

    def request_of(content: bytes) -> Message | _Unreadable:
        try:
            return request_class.FromString(content)
        except DecodeError:
            return _Unreadable()

    async def answer(request: Message | _Unreadable, context: Context) -> Message | None:
        async with errors_as_status(context):
            _require_readable(request, rpc)
            identify(context)
            response: Message = await method(request)
            return response
        return None

    async def stream(request: Message | _Unreadable, context: Context) -> None:
        async with errors_as_status(context):
            _require_readable(request, rpc)
            identify(context)
            async with aclosing(method(request)) as responses:
                with suppress(grpc.aio.InternalError):  # nobody reads any more
                    async for response in responses:
                        await context.write(response)

    if rpc.server_streaming:
        return grpc.unary_stream_rpc_method_handler(stream, request_of, _bytes_of)
    return grpc.unary_unary_rpc_method_handler(answer, request_of, _bytes_of)


def _require_readable(request: Message | _Unreadable, rpc: MethodDescriptor) -> None:
    if isinstance(request, _Unreadable):
        raise InvalidRequest([Violation("", f"a {rpc.input_type.name}", "other bytes")])


def _bytes_of(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()
