"""Trace context, and the one exporter of a process.

Spans of the engine are values built from facts (see `projection`), not objects that a dying process must flush.
What a task records with the OpenTelemetry SDK leaves by the same exporter.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.proto.trace.v1 import trace_pb2

SERVER: Final = int(trace_pb2.Span.SPAN_KIND_SERVER)
CLIENT: Final = int(trace_pb2.Span.SPAN_KIND_CLIENT)
PRODUCER: Final = int(trace_pb2.Span.SPAN_KIND_PRODUCER)
CONSUMER: Final = int(trace_pb2.Span.SPAN_KIND_CONSUMER)

Attribute: TypeAlias = str | int | float | bool

_SAMPLED: Final = otel_trace.TraceFlags(otel_trace.TraceFlags.SAMPLED)
_TRACEPARENT_PARTS: Final = 4


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def _random_id(size: int) -> bytes:
    """Ids of traces are to be unique, not secret: as in OpenTelemetry's SDK, without a system call. Forks reseed."""
    return random.getrandbits(size * 8).to_bytes(size, "big")


@dataclass(frozen=True, slots=True)
class SpanContext:
    """The ids of one span: 16 bytes of trace, 8 bytes of span. Every span is sampled."""

    trace_id: bytes
    span_id: bytes

    @staticmethod
    def new_root() -> SpanContext:
        return SpanContext(_random_id(16), _random_id(8))

    @staticmethod
    def parse(traceparent: str) -> SpanContext | None:
        """Read a W3C `traceparent`; None when it is malformed or all zero, as the specification asks."""
        parts = traceparent.strip().split("-")
        if len(parts) < _TRACEPARENT_PARTS or len(parts[1]) != 32 or len(parts[2]) != 16 or parts[0] == "ff":  # noqa: PLR2004
            return None
        try:
            trace_id, span_id = bytes.fromhex(parts[1]), bytes.fromhex(parts[2])
        except ValueError:
            return None
        return SpanContext(trace_id, span_id) if any(trace_id) and any(span_id) else None

    def child(self) -> SpanContext:
        """A new span of the same trace."""
        return SpanContext(self.trace_id, _random_id(8))

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-01"


@dataclass(slots=True)
class Span:
    """A finished span. Times are Unix microseconds; `error` is the status message, empty for a span without error."""

    name: str
    kind: int
    context: SpanContext
    parent_span_id: bytes
    start_us: int
    end_us: int
    attributes: dict[str, Attribute] = field(default_factory=dict)
    error: str = ""
    links: tuple[SpanContext, ...] = ()


def current_span() -> SpanContext | None:
    """The span that this code runs in, whether the engine set it or the SDK did."""
    context = otel_trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return SpanContext(context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"))


@contextlib.contextmanager
def use_span(context: SpanContext) -> Iterator[None]:
    """Make `context` the current span, the parent of SDK spans and of outgoing calls inside the block."""
    span = otel_trace.NonRecordingSpan(
        otel_trace.SpanContext(
            int.from_bytes(context.trace_id, "big"),
            int.from_bytes(context.span_id, "big"),
            is_remote=False,
            trace_flags=_SAMPLED,
        )
    )
    token = otel_context.attach(otel_trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)


def configure(service_name: str) -> None:
    """Name this process's spans, and send what tasks record with the SDK through the same exporter."""
    from chassis.span_sink import install  # noqa: PLC0415 (the sink's libraries are not needed where no span is emitted)

    install(service_name)


def emit(span: Span) -> None:
    """Hand a span to the exporter. Never blocks; a full queue drops it and counts the drop."""
    from chassis import span_sink  # noqa: PLC0415

    span_sink.emit(span)


def shutdown() -> None:
    """Export what is queued, within the exporter's timeout."""
    from chassis import span_sink  # noqa: PLC0415

    span_sink.shutdown()
