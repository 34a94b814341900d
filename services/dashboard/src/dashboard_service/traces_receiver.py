"""A small OTLP receiver for spans, and the service that shows them: recent traces, in memory.

Export, GetTrace and WatchTrace run on one event loop, so the store needs no lock.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import grpc
from chassis import logging
from chassis.errors import NotFound, ResourceExhausted, Violations
from chassis.rpc_server import RpcServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from waybill.traces.v1 import traces_pb2, traces_pb2_grpc

from dashboard_service import otlp
from dashboard_service.settings import DashboardSettings
from dashboard_service.trace_store import TraceStore

MAX_MESSAGE_BYTES = 16 << 20
MAX_WATCHERS = 256
# Spans that a watcher may lag behind.
MAX_LAG = 20_000

_TRACE_ID_DIGITS = 32
log = logging.get_logger()


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """`opentelemetry.proto.collector.trace.v1.TraceService`."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def Export(
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        _context: grpc.aio.ServicerContext[
            trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse
        ],
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keep every valid span; count the others and say why, as OTLP's partial success."""
        refused: list[str] = []
        for found in otlp.read(request):
            if isinstance(found, otlp.InvalidSpan):
                refused.append(str(found))
            else:
                self._store.add(found.trace_id, found.span.span_id, found.span.SerializeToString())
        answer = trace_service_pb2.ExportTraceServiceResponse()
        if refused:
            answer.partial_success.rejected_spans = len(refused)
            answer.partial_success.error_message = "; ".join(refused[:10])
        return answer


class Traces(traces_pb2_grpc.TraceServiceServicer):
    """`waybill.traces.v1.TraceService`."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._watchers: set[asyncio.Queue[bytes | None]] = set()

    async def GetTrace(
        self, request: traces_pb2.GetTraceRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> traces_pb2.GetTraceResponse:
        _check(request.trace_id)
        spans = [traces_pb2.Span.FromString(encoded) for encoded in self._store.get(request.trace_id)]
        if not spans:
            raise NotFound(
                f"nothing of trace {request.trace_id} has been received, or it is no longer kept",
                reason="TRACE_NOT_FOUND",
                metadata={"trace_id": request.trace_id},
            )
        return traces_pb2.GetTraceResponse(spans=sorted(spans, key=lambda span: span.start_time.ToNanoseconds()))

    async def WatchTrace(
        self, request: traces_pb2.WatchTraceRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> AsyncIterator[traces_pb2.WatchTraceResponse]:
        _check(request.trace_id)
        self._check_watchers()
        arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        known = self._store.get(request.trace_id)
        stop = self._store.watch(request.trace_id, arrived.put_nowait)
        self._watchers.add(arrived)
        try:
            for encoded in known:
                yield _seen(encoded)
            while (further := await arrived.get()) is not None:
                if arrived.qsize() > MAX_LAG:
                    raise ResourceExhausted(f"more than {MAX_LAG} spans wait for this watcher", reason="WATCHER_LAGS")
                yield _seen(further)
        finally:
            stop()
            self._watchers.discard(arrived)

    def end_watching(self) -> None:
        """End every watcher's stream."""
        for arrived in self._watchers:
            arrived.put_nowait(None)

    def _check_watchers(self) -> None:
        if len(self._watchers) >= MAX_WATCHERS:
            raise ResourceExhausted(f"{MAX_WATCHERS} watchers, as many as are allowed", reason="TOO_MANY_WATCHERS")


def _seen(encoded: bytes) -> traces_pb2.WatchTraceResponse:
    return traces_pb2.WatchTraceResponse(span=traces_pb2.Span.FromString(encoded))


def _check(trace_id: str) -> None:
    violations = Violations()
    valid = len(trace_id) == _TRACE_ID_DIGITS and set(trace_id) <= set("0123456789abcdef")
    violations.require(valid, "trace_id", "expected 32 lower-case hex digits")
    violations.raise_if_any()


class TraceServer:
    """The receiver's server, startable in a test as in its process."""

    def __init__(self, settings: DashboardSettings) -> None:
        self.store = TraceStore(settings.traces_max_spans, settings.traces_max_traces)
        self._traces = Traces(self.store)
        self._health = health.HealthServicer()
        self._grace = settings.waybill.grace_seconds
        self._listen = settings.traces_listen
        # It leads on to no other service, and spans about spans would have no end.
        waybill = settings.waybill.model_copy(update={"routes": {}, "max_payload_bytes": MAX_MESSAGE_BYTES})
        self._server = RpcServer("dashboard", waybill, quiet=True)
        self._server.add(trace_service_pb2_grpc.add_TraceServiceServicer_to_server, Receiver(self.store))
        self._server.add(traces_pb2_grpc.add_TraceServiceServicer_to_server, self._traces)
        self._server.add(health_pb2_grpc.add_HealthServicer_to_server, self._health)
        self._server.add_reflection()
        self.port = 0

    async def start(self) -> None:
        """Raises RuntimeError when the address is taken."""
        self.port = await self._server.start(self._listen)
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Take nothing more, end the watchers, let running exports finish."""
        await self._health.enter_graceful_shutdown()
        self._traces.end_watching()
        await self._server.stop(self._grace)


def serve(settings: DashboardSettings) -> int:
    """Receive until SIGTERM or SIGINT."""
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: DashboardSettings) -> None:
    told_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_end.set)
    server = TraceServer(settings)
    await server.start()
    log.info("traces.serving", listen=settings.traces_listen)
    await told_to_end.wait()
    await server.stop()
    log.info("traces.stopped", spans=server.store.spans, traces=server.store.traces)
