"""Binds the methods of a servicer to the rpcs of a service.

Everything that is the same for each rpc stands here: whether the call may be made, a
request that comes too slowly or cannot be read, whose call it is, an error that must
become a status, and responses that are bytes already.

To gRPC all requests are streams, although each has one message: so a call is refused
before its request is read, and nobody can keep a call open by never sending the rest.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from faultlane_server.scenario import Violation
from faultlane_server.service.access import Access
from faultlane_server.service.errors import InvalidRequest, RequestTooSlow
from faultlane_server.service.identity import identify
from faultlane_server.service.status import Context, errors_as_status
from faultlane_server.service.tokens import Token

REQUEST_S_MAX = 30.0  # from the begin of a call until its request is there


def handlers_of(
    servicer: object, service: ServiceDescriptor, access: Access
) -> grpc.GenericRpcHandler:
    """Return handlers that call the method of `servicer` that has the name of the rpc."""
    return grpc.method_handlers_generic_handler(
        service.full_name,
        {rpc.name: _handler(getattr(servicer, rpc.name), rpc, access) for rpc in service.methods},
    )


def _handler(method: Any, rpc: MethodDescriptor, access: Access) -> Any:
    async def answer(_: object, context: Context) -> Message | None:
        async with _admitted(rpc, context, access):
            response: Message = await method(await _request(rpc, context))
            return response
        return None

    async def stream(_: object, context: Context) -> None:
        async with (
            _admitted(rpc, context, access) as token,
            aclosing(method(await _request(rpc, context))) as responses,
        ):
            with suppress(grpc.aio.InternalError):  # nobody reads any more
                async for response in responses:
                    access.require_still_good(token)
                    await context.write(response)

    if rpc.server_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, None, _bytes_of)
    return grpc.stream_unary_rpc_method_handler(answer, None, _bytes_of)


@asynccontextmanager
async def _admitted(
    rpc: MethodDescriptor, context: Context, access: Access
) -> AsyncIterator[Token | None]:
    """Let a call be made, or end it with the status of whatever is in the way."""
    async with errors_as_status(context):
        metadata = context.invocation_metadata() or ()
        token = access.admit(f"/{rpc.containing_service.full_name}/{rpc.name}", metadata)
        identify(context, token)
        yield token


async def bytes_of_request(context: Context) -> Any:
    """Return the one message of a call, as bytes; what is not bytes stands for none."""
    try:
        async with asyncio.timeout(REQUEST_S_MAX):
            return await context.read()
    except TimeoutError as error:
        raise RequestTooSlow(REQUEST_S_MAX) from error


async def _request(rpc: MethodDescriptor, context: Context) -> Message:
    content = await bytes_of_request(context)
    try:
        return GetMessageClass(rpc.input_type).FromString(content)
    except (DecodeError, TypeError) as error:
        want = f"a {rpc.input_type.name}"
        raise InvalidRequest([Violation("", want, "other bytes")]) from error


def _bytes_of(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()
