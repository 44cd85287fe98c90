"""Binds the methods of a servicer to the rpcs of a service.

Everything that is the same for each rpc stands here: whether the call may be made, a
request that comes too slowly or cannot be read, whose call it is, an error that must
become a status, and responses that are bytes already.

To gRPC all requests are streams, although each has one message: so a call is refused
before its request is read, and nobody can keep a call open by never sending the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from faultlane_server.scenario import Violation
from faultlane_server.service.access import Access
from faultlane_server.service.calls import CALL_ID, Call, Context, Observer, observed
from faultlane_server.service.errors import InvalidRequest, RequestTooSlow
from faultlane_server.service.identity import identify, owner
from faultlane_server.service.status import errors_as_status
from faultlane_server.service.tokens import Token

REQUEST_S_MAX = 30.0  # from the begin of a call until its request is there


class Door(NamedTuple):
    """What stands before every call."""

    access: Access
    observers: Sequence[Observer] = ()


class _Visit(NamedTuple):
    """A call that was let in."""

    call: Call
    token: Token | None


def handlers_of(servicer: object, service: ServiceDescriptor, door: Door) -> grpc.GenericRpcHandler:
    """Return handlers that call the method of `servicer` that has the name of the rpc."""
    return grpc.method_handlers_generic_handler(
        service.full_name,
        {rpc.name: _handler(getattr(servicer, rpc.name), rpc, door) for rpc in service.methods},
    )


def _handler(method: Any, rpc: MethodDescriptor, door: Door) -> Any:
    async def answer(_: object, context: Context) -> bytes | None:
        async with _admitted(rpc, context, door) as visit:
            return _sent(await method(await _request(rpc, context, visit.call)), visit.call)
        return None

    async def stream(_: object, context: Context) -> None:
        async with (
            _admitted(rpc, context, door) as visit,
            aclosing(method(await _request(rpc, context, visit.call))) as responses,
        ):
            try:
                async for response in responses:
                    door.access.require_still_good(visit.token)
                    await context.write(_sent(response, visit.call))
            except grpc.aio.InternalError:  # nobody reads any more
                visit.call.code = grpc.StatusCode.CANCELLED.name

    if rpc.server_streaming:
        return grpc.stream_stream_rpc_method_handler(stream)
    return grpc.stream_unary_rpc_method_handler(answer)


@asynccontextmanager
async def _admitted(rpc: MethodDescriptor, context: Context, door: Door) -> AsyncIterator[_Visit]:
    """Let a call be made, or end it with the status of whatever is in the way."""
    name = f"{rpc.containing_service.full_name}/{rpc.name}"
    with observed(name, context, door.observers) as call:
        context.set_trailing_metadata(((CALL_ID, call.id),))
        async with errors_as_status(context):
            token = door.access.admit(f"/{name}", call.metadata)
            identify(context, token)
            call.owner = owner()
            yield _Visit(call, token)


async def bytes_of_request(context: Context) -> Any:
    """Return the one message of a call, as bytes; what is not bytes stands for none."""
    try:
        async with asyncio.timeout(REQUEST_S_MAX):
            return await context.read()
    except TimeoutError as error:
        raise RequestTooSlow(REQUEST_S_MAX) from error


async def _request(rpc: MethodDescriptor, context: Context, call: Call) -> Message:
    content = await bytes_of_request(context)
    try:
        request: Message = GetMessageClass(rpc.input_type).FromString(content)
    except (DecodeError, TypeError) as error:
        want = f"a {rpc.input_type.name}"
        raise InvalidRequest([Violation("", want, "other bytes")]) from error
    call.sees_request(request, len(content))
    return request


def _sent(response: Message | bytes, call: Call) -> bytes:
    """Return the bytes of a response that is about to be sent."""
    call.sees_response(response)
    content = response if isinstance(response, bytes) else response.SerializeToString()
    call.sends(content)
    return content
