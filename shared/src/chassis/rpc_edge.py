"""The edge of a gateway: what happens around every RPC, whatever its servicer does.

Who calls and whether that one may, trace, deadline, admission by size, errors. Each method's handler is
wrapped once, when the gateway is built; there is no chain of interceptors to run through with each call.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar

import grpc

from chassis import redaction, rpc_spans, telemetry
from chassis.authority import Authority
from chassis.call import Call, current_call, margin_seconds
from chassis.credentials import Principal
from chassis.errors import InvalidArgument, PermissionDenied, Unauthenticated, Unavailable, WaybillError
from chassis.instruments import RPC_DURATION
from chassis.logging import get_logger
from chassis.roles import Rule
from chassis.rpc_errors import RETRY_AFTER, Answer, Relayed, answer_of, known_error
from chassis.rpc_spans import SERVER_ERRORS, TRACE_KEY, rpc_span
from chassis.settings import WaybillSettings
from chassis.telemetry import SpanContext
from chassis.watched_file import LOOK_SECONDS

FORWARDED_KEY: Final = "waybill-forwarded"

# Calls without an end of their own: they have the caller's deadline or none, end when the
# gateway drains, and are spans only when they fail.
_LINGERING: Final = frozenset(
    {
        "google.longrunning.Operations/WaitOperation",
        "waybill.events.v1.EventService/Subscribe",
        "waybill.traces.v1.TraceService/WatchTrace",
        "externalscaler.ExternalScaler/StreamIsActive",
    }
)
_HOUSEKEEPING: Final = ("grpc.health.", "grpc.reflection.")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
# Answers a call with raw bytes, or gives None: the call is for the local servicer.
Forward: TypeAlias = "Callable[[Call, Context, bytes], Awaitable[list[bytes]] | None]"
T = TypeVar("T")

log = get_logger()


@dataclass(frozen=True, slots=True)
class Method:
    """A method as the edge treats it; `name` is `<package>.<Service>/<Method>`."""

    name: str
    # Nothing but the caller's own deadline ends a stream.
    streams: bool
    # Has no end of its own, and no span unless it fails.
    lingers: bool
    rule: Rule

    @classmethod
    def of(cls, name: str, rule: Rule, *, streams: bool) -> Method:
        return cls(name, streams, lingering(name), rule)


def lingering(name: str) -> bool:
    """Whether the method's calls have no end of their own."""
    return name in _LINGERING or name.startswith(_HOUSEKEEPING)


class Edge:
    """Wraps handlers; one per listener. `quiet`: its calls are no spans."""

    def __init__(self, service: str, waybill: WaybillSettings, *, quiet: bool = False) -> None:
        self.service = service
        self.authority = Authority(service, waybill)
        self.draining = False
        self._max_payload_bytes = waybill.max_payload_bytes
        self._quiet = quiet
        self._lingering: set[_Bounded] = set()

    def drain(self) -> None:
        """End the calls that have no end of their own: UNAVAILABLE, reason DRAINING; clients come again elsewhere."""
        self.draining = True
        for bounded in self._lingering:
            bounded.end()

    async def watch_credentials(self) -> None:
        """End each lingering call whose caller may no longer make it, within seconds; runs until it is cancelled."""
        while self.authority.asks:
            await asyncio.sleep(LOOK_SECONDS)
            for bounded in tuple(self._lingering):
                bounded.check()

    def wrap(self, name: str, handler: Handler, forward: Forward | None, rule: Rule) -> Handler:
        """The handler with the edge around it; `forward` may take calls away from the servicer."""
        method = Method.of(name, rule, streams=handler.request_streaming or handler.response_streaming)
        return _Wrapped(self, method, handler, forward).handler()

    def admit(self, data: bytes) -> None:
        """Raise InvalidArgument, reason PAYLOAD_TOO_LARGE, for a request above the limit."""
        if len(data) > self._max_payload_bytes:
            raise InvalidArgument(
                f"the request has {len(data)} bytes; the limit is {self._max_payload_bytes}",
                reason="PAYLOAD_TOO_LARGE",
                metadata={"size_bytes": str(len(data)), "limit_bytes": str(self._max_payload_bytes)},
            )

    async def run(self, method: Method, context: Context, work: Callable[[Call], Awaitable[T]]) -> T:
        """Do the work of one RPC; whatever it raises reaches the client as a Status."""
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        call, limit = self._begin(method, context, metadata)
        bounded = _Bounded(
            limit,
            self._lingering if method.lingers else None,
            lambda: self.authority.admit(method.rule, metadata, context.auth_context),
        )
        code = grpc.StatusCode.OK
        try:
            caller = bounded.admit()
            call.principal, call.roles = caller.name, caller.roles
            with telemetry.use_span(call.context):
                async with bounded:
                    return await work(call)
        except grpc.aio.AbortError:
            code = context.code()
            raise
        except (asyncio.CancelledError, grpc.aio.BaseError):
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - every exception becomes a Status here
            answer = self._answer(method, bounded.refusal or error)
            code = answer.code
            await context.abort(answer.code, answer.details, answer.trailing)
        finally:
            self._end(method, call, code)

    def _begin(self, method: Method, context: Context, metadata: dict[str, Any]) -> tuple[Call, float]:
        """The call, and when it is cut off; its deadline is earlier, so that it can answer by itself.

        A stream is cut off by its caller alone.
        """
        parent = SpanContext.parse(metadata.get(TRACE_KEY, ""))
        seconds, margin = work_seconds(context.time_remaining(), unbounded=method.streams or method.lingers)
        deadline = asyncio.get_running_loop().time() + seconds
        call = Call(
            method=method.name,
            start_us=telemetry.now_us(),
            context=parent.child() if parent else SpanContext.new_root(),
            parent_span_id=parent.span_id if parent else b"",
            deadline=deadline,
        )
        current_call.set(call)
        return call, math.inf if method.streams else deadline + margin / 2

    def _answer(self, method: Method, error: Exception) -> Answer:
        if isinstance(error, Relayed):
            return error.answer
        known = known_error(error)
        if isinstance(error, TimeoutError) and self.draining and method.lingers:
            known = Unavailable("the gateway is draining", reason="DRAINING", retry_after=RETRY_AFTER)
        if known is None:
            log.error("rpc.failed", method=method.name, exc_info=error)
            known = WaybillError("an internal error; the service's log says which")
        elif isinstance(known, Unauthenticated | PermissionDenied):
            log.info(
                "rpc.denied", method=method.name, reason=known.reason, principal=known.metadata.get("principal", "")
            )
        elif known.code in SERVER_ERRORS and not self.draining:
            log.warning("rpc.refused", method=method.name, reason=known.reason, error=repr(error))
        return answer_of(known, self.service)

    def _end(self, method: Method, call: Call, code: grpc.StatusCode) -> None:
        # Of a method that nobody has, a client has made the name.
        known = "other" if code is grpc.StatusCode.UNIMPLEMENTED else call.method
        RPC_DURATION.observe((telemetry.now_us() - call.start_us) / 1e6, known, code.name)
        failed = code in SERVER_ERRORS
        if self._quiet or call.projected or (method.lingers and not failed) or (self.draining and method.lingers):
            return
        telemetry.emit(rpc_span(call.method, telemetry.SERVER, call.context, call.parent_span_id, call.start_us, code))


class _Wrapped:
    """One method's handler with the edge around it; takes and gives bytes where a request is one message."""

    def __init__(self, edge: Edge, method: Method, handler: Handler, forward: Forward | None) -> None:
        self._edge = edge
        self._method = method
        self._inner = handler
        self._forward = forward
        self._parse = handler.request_deserializer or bytes
        self._sensitive = redaction.is_sensitive_method(method.name)
        self._serialize = _serializer(handler.response_serializer)

    def _read(self, data: bytes) -> Any:
        """The request; what its contract marks as sensitive stays out of whatever is logged of this call."""
        request: Any = self._parse(data)
        if self._sensitive:
            redaction.guard(request)
        return request

    def handler(self) -> Handler:
        parse, serialize = self._inner.request_deserializer, self._inner.response_serializer
        match self._inner.request_streaming, self._inner.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(self.unary_unary, None, None)
            case False, True:
                return grpc.unary_stream_rpc_method_handler(self.unary_stream, None, self._serialize)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(self.stream_unary, parse, serialize)
        return grpc.stream_stream_rpc_method_handler(self.stream_stream, parse, serialize)

    async def unary_unary(self, data: bytes, context: Context) -> Any:
        inner: Any = self._inner.unary_unary

        async def work(call: Call) -> Any:
            self._edge.admit(data)
            if self._forward is not None and (forwarded := self._forward(call, context, data)) is not None:
                return (await forwarded)[-1]
            response = inner(self._read(data), context)
            return self._serialize(await response if inspect.isawaitable(response) else response)

        return await self._edge.run(self._method, context, work)

    async def unary_stream(self, data: bytes, context: Context) -> None:
        inner: Any = self._inner.unary_stream

        async def work(call: Call) -> None:
            self._edge.admit(data)
            if self._forward is not None and (forwarded := self._forward(call, context, data)) is not None:
                await forwarded
            else:
                await _drive(inner(self._read(data), context), context)

        await self._edge.run(self._method, context, work)

    async def stream_unary(self, requests: AsyncIterator[Any], context: Context) -> Any:
        inner: Any = self._inner.stream_unary
        return await self._edge.run(self._method, context, lambda _call: inner(requests, context))

    async def stream_stream(self, requests: AsyncIterator[Any], context: Context) -> None:
        inner: Any = self._inner.stream_stream
        await self._edge.run(self._method, context, lambda _call: _drive(inner(requests, context), context))


class _Bounded:
    """`async with`: TimeoutError when the deadline passes; where it lingers, also when it is told to end."""

    __slots__ = ("_lingering", "_timeout", "admit", "refusal")

    def __init__(self, deadline: float, lingering: set[_Bounded] | None, admit: Callable[[], Principal]) -> None:
        self._timeout = asyncio.timeout_at(None if deadline == math.inf else deadline)
        self._lingering = lingering
        self.admit = admit
        #: Why it was ended before its time.
        self.refusal: WaybillError | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        if self._lingering is not None:
            self._lingering.add(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lingering is not None:
            self._lingering.discard(self)
        await self._timeout.__aexit__(kind, error, traceback)

    def check(self) -> None:
        """End it where the caller would no longer be admitted."""
        try:
            self.admit()
        except WaybillError as error:
            self.refusal = error
            self.end()

    def end(self) -> None:
        """TimeoutError in the call, now."""
        self._timeout.reschedule(asyncio.get_running_loop().time())


def work_seconds(remaining: float | None, *, unbounded: bool) -> tuple[float, float]:
    """How long a call may work, and the margin in which its answer still reaches the caller."""
    if remaining is None:
        return (math.inf if unbounded else rpc_spans.DEFAULT_DEADLINE_SECONDS), 0.0
    margin = margin_seconds(remaining)
    return remaining - margin, margin


def _serializer(serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    if serialize is None:
        return bytes
    return lambda response: response if isinstance(response, bytes) else serialize(response)


async def _drive(responses: Any, context: Context) -> None:
    """Send what a streaming servicer yields; one that writes to the context itself is only awaited."""
    if not hasattr(responses, "__aiter__"):
        await responses
        return
    async for response in responses:
        await context.write(response)
