"""The exporter of a process: spans queue up, one thread sends them in batches over OTLP/gRPC.

The thread starts with the first span, so that a process that forks before has none (law 10).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc
from opentelemetry import trace as otel_trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis import otlp_wire, redaction
from chassis.telemetry import Span

QUEUE_LIMIT: Final = 20_000
BATCH_LIMIT: Final = 512
BATCH_WAIT_SECONDS: Final = 0.2
SEND_ATTEMPTS: Final = 5
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

log = logging.getLogger(__name__)


class OtelSettings(BaseSettings):
    """OpenTelemetry's standard variables, as far as Waybill reads them. Without an endpoint no span is sent."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", extra="ignore")

    exporter_otlp_endpoint: str = ""
    exporter_otlp_traces_endpoint: str = ""
    exporter_otlp_headers: str = ""
    exporter_otlp_certificate: str = ""
    exporter_otlp_client_certificate: str = ""
    exporter_otlp_client_key: str = ""
    exporter_otlp_timeout: float = 10.0
    resource_attributes: str = ""
    sdk_disabled: bool = False

    @property
    def endpoint(self) -> str:
        return "" if self.sdk_disabled else self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint


def pairs_of(text: str) -> list[tuple[str, str]]:
    """Read `key=value,key=value`."""
    pairs = (item.partition("=") for item in text.split(",") if "=" in item)
    return [(key.strip(), value.strip()) for key, _, value in pairs]


@dataclass(slots=True)
class SpanSink:
    """Sends spans to one OTLP endpoint. `dropped` counts those that found the queue full or no receiver."""

    settings: OtelSettings
    service_name: str
    dropped: int = 0
    _queue: queue.Queue[bytes | None] = field(default_factory=lambda: queue.Queue(QUEUE_LIMIT))
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _export: Callable[..., object] | None = None

    def put(self, span: bytes) -> None:
        """Queue a serialized span; a full queue drops it."""
        if not self.settings.endpoint:
            return
        if self._thread is None:
            self._start()
        try:
            self._queue.put_nowait(span)
        except queue.Full:
            self.dropped += 1

    def send(self, spans: Sequence[bytes]) -> None:
        """Export serialized spans now, on the caller's thread.

        Raises grpc.RpcError when the receiver does not take them.
        """
        if self.settings.endpoint:
            resource = dict(pairs_of(self.settings.resource_attributes)) | {"service.name": self.service_name}
            self._exporter()(
                otlp_wire.export_request(resource, spans),
                timeout=self.settings.exporter_otlp_timeout,
                metadata=[(key.lower(), value) for key, value in pairs_of(self.settings.exporter_otlp_headers)],
            )

    def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(self.settings.exporter_otlp_timeout)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="span-sink", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = self._next_batch()
            closing = batch[-1] is None
            spans = [span for span in batch if span is not None]
            if spans:
                self._send_with_retries(spans)

    def _next_batch(self) -> list[bytes | None]:
        batch = [self._queue.get()]
        deadline = time.monotonic() + BATCH_WAIT_SECONDS
        while len(batch) < BATCH_LIMIT and batch[-1] is not None:
            try:
                batch.append(self._queue.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                break
        return batch

    def _send_with_retries(self, spans: list[bytes]) -> None:
        pause = threading.Event()
        for attempt in range(1, SEND_ATTEMPTS + 1):
            try:
                self.send(spans)
            except grpc.RpcError as error:
                if attempt == SEND_ATTEMPTS:
                    self.dropped += len(spans)
                    log.warning("spans.dropped", extra={"count": len(spans), "code": str(error.code())})
                    return
                pause.wait(0.2 * 2**attempt)
            else:
                return

    def _exporter(self) -> Callable[..., object]:
        if self._export is None:
            self._export = open_channel(self.settings).unary_unary(
                _EXPORT, response_deserializer=trace_service_pb2.ExportTraceServiceResponse.FromString
            )
        return self._export


def open_channel(settings: OtelSettings) -> grpc.Channel:
    """OTLP/gRPC: `https://` is TLS, `http://` or no scheme is plain text."""
    url = urlsplit(settings.endpoint if "//" in settings.endpoint else f"//{settings.endpoint}")
    options = [("grpc.max_reconnect_backoff_ms", 2000)]
    if url.scheme != "https":
        return grpc.insecure_channel(url.netloc, options=options)
    files = (
        settings.exporter_otlp_certificate,
        settings.exporter_otlp_client_key,
        settings.exporter_otlp_client_certificate,
    )
    credentials = grpc.ssl_channel_credentials(*(Path(name).read_bytes() if name else None for name in files))
    return grpc.secure_channel(url.netloc, credentials, options=options)


class _SdkBridge(SpanProcessor):
    """Passes spans that user code records with the SDK to the sink."""

    def __init__(self, sink: SpanSink) -> None:
        self._sink = sink

    def on_end(self, span: ReadableSpan) -> None:
        for resource_spans in encode_spans([span]).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for encoded in scope_spans.spans:
                    if redaction.is_guarding():
                        redaction.scrub_texts(encoded)
                    self._sink.put(encoded.SerializeToString())


_sink: SpanSink | None = None


def sink() -> SpanSink:
    """This process's sink; unnamed until `install`."""
    global _sink  # noqa: PLW0603
    if _sink is None:
        _sink = SpanSink(OtelSettings(), "waybill")
    return _sink


def install(service_name: str) -> None:
    """Name the sink's resource, and take what user code records with the SDK. Again: only the name."""
    sink().service_name = service_name
    if isinstance(otel_trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider()
    provider.add_span_processor(_SdkBridge(sink()))
    otel_trace.set_tracer_provider(provider)


def emit(span: Span) -> None:
    """Queue a span; a full queue drops it."""
    sink().put(otlp_wire.span_bytes(span))


def shutdown() -> None:
    """Send what is queued, within the exporter's timeout."""
    sink().close()
