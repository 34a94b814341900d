"""Any gateway routes: a call for another service goes on to its owner, as bytes, one hop.

Deadline, metadata, principal and trace go with it; the answer, the status with its details and
the metadata of both ends come back as the owner sent them.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf import descriptor_pool

from chassis import telemetry
from chassis.authority import AUTHORIZATION_KEY, PRINCIPAL_KEY, ROLES_KEY, speaking_for
from chassis.call import Call
from chassis.channels import Channels
from chassis.credentials import Principal
from chassis.errors import FailedPrecondition, NotFound, Unavailable, Unimplemented, WaybillError
from chassis.logging import get_logger
from chassis.roles import AUTHENTICATED
from chassis.rpc_edge import FORWARDED_KEY, Context, Edge, Forward, Handler, Method, lingering
from chassis.rpc_errors import RETRY_AFTER, Relayed
from chassis.rpc_spans import TRACE_KEY, rpc_span
from chassis.settings import WaybillSettings
from chassis.statuses import STATUS_DETAILS_KEY, from_status, rpc_status
from chassis.telemetry import SpanContext

# Services that every gateway serves for its own service, and the request field that names another one's.
_SHARED: Final = {
    "google.longrunning.Operations": "name",
    "waybill.events.v1.EventService": "service",
    "waybill.admin.v1.QueueService": "service",
    "waybill.admin.v1.WorkerService": "service",
    "waybill.admin.v1.DeadLetterService": "service",
    "waybill.admin.v1.OperationService": "service",
}

# Of this hop alone; what begins with `grpc-` is gRPC's own.
_HOP_KEYS: Final = frozenset(
    {"user-agent", "content-type", "te", TRACE_KEY, FORWARDED_KEY, PRINCIPAL_KEY, ROLES_KEY, AUTHORIZATION_KEY}
)

_PACKAGE: Final = re.compile(r"waybill\.(?P<service>[a-z0-9_]+)\.v[0-9]+")
_LENGTH_DELIMITED: Final = 2

log = get_logger()

_Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


class Routes:
    """Which service owns a method or an operation."""

    def __init__(self, own: str, waybill: WaybillSettings) -> None:
        self.own = own
        self.targets = waybill.targets
        self._packages = waybill.packages

    def owner_of_method(self, method: str) -> str:
        """Raises Unimplemented for a method that this service should have, or that no route leads to."""
        package = method.partition("/")[0].rpartition(".")[0]
        owner = self._packages.get(package) or _service_of_package(package)
        if owner == self.own or owner not in self.targets:
            raise Unimplemented(
                f"no service here has the method {method}", reason="UNKNOWN_METHOD", metadata={"method": method}
            )
        return owner

    def owner_named(self, service: str) -> str:
        """The service, or "" for this one; raises NotFound for one that no route leads to."""
        if service in {"", self.own}:
            return ""
        if service not in self.targets:
            raise NotFound(
                f"there is no service {service!r}; there are {', '.join(sorted({*self.targets, self.own}))}",
                reason="UNKNOWN_SERVICE",
                metadata={"service": service},
            )
        return service


class Forwarder:
    """Sends calls on to their owners."""

    def __init__(self, edge: Edge, routes: Routes, channels: Channels) -> None:
        self._edge = edge
        self._routes = routes
        self._channels = channels

    def dispatch(self, name: str) -> Forward | None:
        """For a method that every gateway has: takes the calls away that name another service."""
        service, _, _ = name.partition("/")
        if service not in _SHARED:
            return None
        described = descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
        field = described.input_type.fields_by_name[_SHARED[service]]
        streams = described.server_streaming

        def forward(call: Call, context: Context, data: bytes) -> Awaitable[list[bytes]] | None:
            named = text_field(data, field.number)
            owner = self._routes.owner_named(service_of_name(named) if field.name == "name" else named)
            if not owner:
                return None
            return self._answers(call, context, owner, data, streams=streams)

        return forward

    def handler(self, name: str) -> Handler:
        """For a method that this gateway does not have."""
        # Its owner knows the rule.
        method = Method.of(name, AUTHENTICATED, streams=_streams(name))

        async def forward(requests: AsyncIterator[bytes], context: Context) -> None:
            async def work(call: Call) -> None:
                await self._forward(call, context, self._routes.owner_of_method(name), requests, context.write)

            await self._edge.run(method, context, work)

        return grpc.stream_stream_rpc_method_handler(forward, None, None)

    async def _answers(self, call: Call, context: Context, owner: str, data: bytes, *, streams: bool) -> list[bytes]:
        answers: list[bytes] = []

        async def keep(answer: bytes) -> None:
            answers.append(answer)

        await self._forward(call, context, owner, _once(data), context.write if streams else keep)
        return answers

    async def _forward(
        self,
        call: Call,
        context: Context,
        owner: str,
        requests: AsyncIterator[bytes],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        received: _Metadata = tuple(context.invocation_metadata() or ())
        _refuse_second_hop(received, owner, self._edge.service)
        hop = call.context.child()
        start_us = telemetry.now_us()
        channel = self._channels.asynchronous(owner, bare=True)
        send: Any = channel.stream_stream(f"/{call.method}")
        rpc = send(
            requests, timeout=_remaining(call), metadata=grpc.aio.Metadata(*self._onward(received, call, hop, owner))
        )
        code = grpc.StatusCode.CANCELLED
        try:
            await _pass_answers(rpc, context, write)
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise _relayed(error, channel, owner) from error
        finally:
            rpc.cancel()
            if not lingering(call.method):
                telemetry.emit(rpc_span(call.method, telemetry.CLIENT, hop, call.context.span_id, start_us, code))

    def _onward(self, received: _Metadata, call: Call, hop: SpanContext, owner: str) -> _Metadata:
        """This gateway shows its own credentials and says for whom it speaks; the caller's stay here."""
        return (
            *custom(received),
            *self._channels.bearer(owner),
            (TRACE_KEY, hop.traceparent),
            (FORWARDED_KEY, self._edge.service),
            *speaking_for(Principal(call.principal, call.roles)),
        )


def text_field(data: bytes, number: int) -> str:
    """The value of a string field at the top of a serialized message, without parsing the rest.

    "" when it is absent or the message is malformed: whoever parses it will say so.
    """
    found, position = b"", 0
    try:
        while position < len(data):
            tag, position = _varint(data, position)
            kind = tag & 7
            length = 0
            if kind == 0:
                _, position = _varint(data, position)
            elif kind == _LENGTH_DELIMITED:
                length, position = _varint(data, position)
            else:
                length = {1: 8, 5: 4}[kind]
            if tag == number << 3 | _LENGTH_DELIMITED:
                found = data[position : position + length]
            position += length
        return found.decode()
    except (LookupError, UnicodeDecodeError):
        return ""


def service_of_name(name: str) -> str:
    """The service in `operations/{service}` or `operations/{service}/{id}`; "" in any other name."""
    collection, _, rest = name.partition("/")
    return rest.partition("/")[0] if collection == "operations" else ""


def custom(metadata: _Metadata) -> _Metadata:
    """What clients and servicers have set, without what belongs to one hop."""
    return tuple((key, value) for key, value in metadata if key not in _HOP_KEYS and not _is_grpcs_own(key))


def _is_grpcs_own(key: str) -> bool:
    return key.startswith(("grpc-", ":")) and key != STATUS_DETAILS_KEY


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7


def _streams(name: str) -> bool:
    try:
        described = descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
    except KeyError:
        # A method that this build does not know: only its owner can say how long it takes.
        return True
    return described.server_streaming or described.client_streaming


def _service_of_package(package: str) -> str:
    parts = _PACKAGE.fullmatch(package)
    return parts["service"] if parts else ""


def _refuse_second_hop(received: _Metadata, owner: str, here: str) -> None:
    came_from = next((str(value) for key, value in received if key == FORWARDED_KEY), "")
    if came_from:
        raise FailedPrecondition(
            f"{came_from} forwarded this call to {here}, whose WAYBILL_ROUTES give it to {owner}: a call takes one hop",
            reason="ROUTING_LOOP",
            metadata={"forwarded_by": came_from, "owner": owner},
        )


def _remaining(call: Call) -> float | None:
    if call.deadline == math.inf:
        return None
    return max(0.0, call.deadline - asyncio.get_running_loop().time())


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _pass_answers(rpc: Any, context: Context, write: Callable[[bytes], Awaitable[None]]) -> None:
    if initial := custom(tuple(await rpc.initial_metadata())):
        await context.send_initial_metadata(initial)
    async for answer in rpc:
        await write(answer)
    context.set_trailing_metadata(custom(tuple(await rpc.trailing_metadata())))


def _relayed(error: grpc.aio.AioRpcError, channel: grpc.aio.Channel, owner: str) -> Exception:
    trailing = custom(tuple(error.trailing_metadata() or ()))
    code = error.code()
    spoke = any(key == STATUS_DETAILS_KEY for key, _ in trailing)
    gone = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        gone = channel.get_state() is not grpc.ChannelConnectivity.READY
    if gone and not spoke:
        return owner_unavailable(owner)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        # The caller has been authenticated here: it is this gateway that the owner does not know.
        log.error("forward.refused", owner=owner, reason=from_status(rpc_status(error)).reason)
        return Unavailable(
            f"{owner} does not know the gateway that forwarded this call",
            reason="GATEWAY_UNAUTHENTICATED",
            metadata={"service": owner},
        )
    return Relayed(code, error.details() or "", trailing)


def owner_unavailable(owner: str) -> WaybillError:
    """What a client is told while the owner is down."""
    return Unavailable(
        f"{owner}, which owns this, is out of reach",
        reason="OWNER_UNAVAILABLE",
        retry_after=RETRY_AFTER,
        metadata={"service": owner},
    )
