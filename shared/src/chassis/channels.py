"""Channels to other services: opened when first used, traced, and bounded in time."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias

import grpc

from chassis import telemetry
from chassis.authority import speaking_for
from chassis.bearer import Bearer
from chassis.credentials import Principal
from chassis.rpc_spans import DEFAULT_DEADLINE_SECONDS, TRACE_KEY, rpc_span
from chassis.settings import WaybillSettings, load
from chassis.telemetry import SpanContext

# A service that comes back is found again within two seconds; a peer that vanished without a
# word is noticed within forty.
OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)

Details: TypeAlias = Any
# The metadata that authenticates this process to one target.
Shown: TypeAlias = Callable[[], Sequence[tuple[str, str]]]


def channel_to(service: str) -> grpc.Channel:
    """A channel to a service by its name in WAYBILL_ROUTES; one per process, shared by its threads."""
    return _channels(os.getpid()).blocking(service)


def aio_channel_to(service: str) -> grpc.aio.Channel:
    """As `channel_to`, for asyncio; one per event loop."""
    return _channels(os.getpid()).asynchronous(service)


@functools.cache
def _channels(_pid: int) -> Channels:
    # By process: a channel does not survive a fork.
    return Channels(load(WaybillSettings))


#: For whom the calls of this context are made, where that is not this process itself.
spoken_for: ContextVar[Principal | None] = ContextVar("spoken_for", default=None)


class Channels:
    """The channels of one process."""

    def __init__(self, waybill: WaybillSettings) -> None:
        self._waybill = waybill
        self._bearer = Bearer(waybill)
        self._lock = threading.Lock()
        self._blocking: dict[str, grpc.Channel] = {}
        self._asynchronous: dict[tuple[str, int, bool], grpc.aio.Channel] = {}

    def blocking(self, service: str) -> grpc.Channel:
        with self._lock:
            if service not in self._blocking:
                self._blocking[service] = self.blocking_to(self.target(service))
            return self._blocking[service]

    def blocking_to(self, target: str) -> grpc.Channel:
        """A channel of the caller's own to `host:port`."""
        credentials = self._credentials()
        channel = (
            grpc.secure_channel(target, credentials, OPTIONS) if credentials else grpc.insecure_channel(target, OPTIONS)
        )
        return grpc.intercept_channel(channel, _Outgoing(self._shown_to(target)))

    def asynchronous(self, service: str, *, bare: bool = False) -> grpc.aio.Channel:
        """`bare`: without trace and default deadline, for a caller that sets them itself."""
        key = (service, id(asyncio.get_running_loop()), bare)
        if key not in self._asynchronous:
            target = self.target(service)
            credentials = self._credentials()
            interceptors: Sequence[grpc.aio.ClientInterceptor] = () if bare else _asynchronous(self._shown_to(target))
            self._asynchronous[key] = (
                grpc.aio.secure_channel(target, credentials, OPTIONS, interceptors=interceptors)
                if credentials
                else grpc.aio.insecure_channel(target, OPTIONS, interceptors=interceptors)
            )
        return self._asynchronous[key]

    def target(self, service: str) -> str:
        """Where the service listens; raises LookupError for one without a route."""
        targets = self._waybill.targets
        if service not in targets:
            raise LookupError(f"WAYBILL_ROUTES has no entry for {service!r}; it has {', '.join(sorted(targets))}")
        return targets[service]

    def bearer(self, service: str) -> Sequence[tuple[str, str]]:
        """What authenticates this process there, for a caller that sets its metadata itself."""
        return self._bearer.metadata(self.target(service))

    def _shown_to(self, target: str) -> Shown:
        return functools.partial(self._bearer.metadata, target)

    async def close(self) -> None:
        """Close what this event loop opened."""
        loop = id(asyncio.get_running_loop())
        for key in [key for key in self._asynchronous if key[1] == loop]:
            await self._asynchronous.pop(key).close()

    def _credentials(self) -> grpc.ChannelCredentials | None:
        files = (self._waybill.tls_ca_file, self._waybill.tls_key_file, self._waybill.tls_cert_file)
        if not self._waybill.tls:
            return None
        return grpc.ssl_channel_credentials(*(path.read_bytes() for path in files if path))


class _Outbound(NamedTuple):
    """One outgoing call: its CLIENT span, where it belongs to a trace."""

    method: str
    context: SpanContext | None
    parent_span_id: bytes
    start_us: int

    @classmethod
    def begin(cls, method: str | bytes) -> _Outbound:
        name = method.decode() if isinstance(method, bytes) else method
        parent = telemetry.current_span()
        child = parent.child() if parent else None
        return cls(name.lstrip("/"), child, parent.span_id if parent else b"", telemetry.now_us())

    def end(self, code: grpc.StatusCode) -> None:
        if self.context is not None:
            span = rpc_span(self.method, telemetry.CLIENT, self.context, self.parent_span_id, self.start_us, code)
            telemetry.emit(span)

    def metadata(self, given: Any, shown: Shown) -> list[tuple[str, str | bytes]]:
        speaker = spoken_for.get()
        kept = [*((key, value) for key, value in given or () if key != TRACE_KEY), *shown()]
        if speaker is not None:
            kept += speaking_for(speaker)
        return [*kept, (TRACE_KEY, self.context.traceparent)] if self.context else kept


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Outgoing(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Blocking calls: credentials, trace context, CLIENT span; 10 s where a single answer has no deadline."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def intercept_unary_unary(self, continuation: Any, client_call_details: Details, request: Any) -> Any:
        return self._call(continuation, client_call_details, request, DEFAULT_DEADLINE_SECONDS)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Details, request_iterator: Iterator[Any]
    ) -> Any:
        return self._call(continuation, client_call_details, request_iterator, DEFAULT_DEADLINE_SECONDS)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Details, request: Any) -> Any:
        return self._call(continuation, client_call_details, request, None)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Details, request_iterator: Iterator[Any]
    ) -> Any:
        return self._call(continuation, client_call_details, request_iterator, None)

    def _call(self, continuation: Any, details: Details, request: Any, seconds: float | None) -> Any:
        outbound = _Outbound.begin(details.method)
        sent = _Details(
            details.method,
            seconds if details.timeout is None else details.timeout,
            outbound.metadata(details.metadata, self._shown),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        rpc = continuation(sent, request)
        if isinstance(rpc, grpc.RpcError) and not hasattr(rpc, "add_callback"):
            outbound.end(rpc.code())
        else:
            rpc.add_done_callback(lambda done: outbound.end(done.code() or grpc.StatusCode.UNKNOWN))
        return rpc


class _OutgoingAio:
    """As `_Outgoing`, for asyncio."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    async def _call(self, continuation: Any, details: Details, request: Any, seconds: float | None) -> Any:
        outbound = _Outbound.begin(details.method)
        sent = grpc.aio.ClientCallDetails(
            details.method,
            seconds if details.timeout is None else details.timeout,
            grpc.aio.Metadata(*outbound.metadata(details.metadata, self._shown)),
            details.credentials,
            details.wait_for_ready,
        )
        rpc = await continuation(sent, request)
        rpc.add_done_callback(_when_done(outbound))
        return rpc


def _when_done(outbound: _Outbound) -> Callable[[Any], None]:
    async def end(rpc: Any) -> None:
        outbound.end(await rpc.code())

    ending: set[asyncio.Task[None]] = set()

    def done(rpc: Any) -> None:
        task = asyncio.get_running_loop().create_task(end(rpc))
        ending.add(task)
        task.add_done_callback(ending.discard)

    return done


class _OutgoingUnary(_OutgoingAio, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Details, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request, DEFAULT_DEADLINE_SECONDS)


class _OutgoingStream(_OutgoingAio, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Details, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request, None)


def _asynchronous(shown: Shown) -> Sequence[grpc.aio.ClientInterceptor]:
    return _OutgoingUnary(shown), _OutgoingStream(shown)
