"""The spans of a trace as the rows of a waterfall. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from waybill.traces.v1 import traces_pb2

from dashboard_service.operation_rows import enum_name

TICKS = 4
MAX_ROWS = 2_000
COLOURS = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One span; `left` and `right` are percent of the trace's length."""

    span_id: str
    name: str
    kind: str
    service: str
    colour: int
    depth: int
    left: float
    right: float
    start: datetime
    duration: timedelta
    error: bool
    error_message: str
    orphan: bool
    attributes: Sequence[tuple[str, str]]
    links: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A trace, ready to draw."""

    rows: Sequence[Row]
    start: datetime
    length: timedelta
    services: Sequence[tuple[str, int]]
    ticks: Sequence[tuple[float, timedelta]]
    errors: int
    hidden: int


def build(spans: Iterable[traces_pb2.Span]) -> Waterfall | None:
    """Depth first, siblings by start time; a span whose parent is not here is a root, marked. None for no spans."""
    by_id = {span.span_id: span for span in spans}
    if not by_id:
        return None
    start = min(_at(span.start_time) for span in by_id.values())
    length = max(_at(span.end_time) for span in by_id.values()) - start
    services = _colours(by_id.values())
    rows = [_row(span, depth, by_id, services, start, length) for span, depth in _ordered(by_id)]
    return Waterfall(
        rows=rows[:MAX_ROWS],
        start=start,
        length=length,
        services=tuple(services.items()),
        ticks=tuple((100 * step / TICKS, length * step / TICKS) for step in range(TICKS + 1)),
        errors=sum(row.error for row in rows),
        hidden=max(0, len(rows) - MAX_ROWS),
    )


def _at(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _key(span: traces_pb2.Span) -> tuple[int, str]:
    return span.start_time.ToNanoseconds(), span.span_id


def _colours(spans: Iterable[traces_pb2.Span]) -> dict[str, int]:
    names = dict.fromkeys(span.service for span in sorted(spans, key=_key))
    return {name: number % COLOURS for number, name in enumerate(names)}


def _ordered(by_id: dict[str, traces_pb2.Span]) -> list[tuple[traces_pb2.Span, int]]:
    children: dict[str, list[traces_pb2.Span]] = {}
    roots: list[traces_pb2.Span] = []
    for span in by_id.values():
        known = span.parent_span_id in by_id and span.parent_span_id != span.span_id
        (children.setdefault(span.parent_span_id, []) if known else roots).append(span)
    found: list[tuple[traces_pb2.Span, int]] = []
    stack = [(span, 0) for span in sorted(roots, key=_key, reverse=True)]
    while stack:
        span, depth = stack.pop()
        found.append((span, depth))
        below = sorted(children.pop(span.span_id, ()), key=_key, reverse=True)
        stack.extend((child, depth + 1) for child in below)
    # What is left are cycles, which no correct sender makes: shown flat rather than lost.
    return found + [(span, 0) for group in children.values() for span in group]


def _row(
    span: traces_pb2.Span,
    depth: int,
    by_id: dict[str, traces_pb2.Span],
    services: dict[str, int],
    start: datetime,
    length: timedelta,
) -> Row:
    begin, end = _at(span.start_time), _at(span.end_time)
    whole = length / timedelta(microseconds=1) or 1.0
    return Row(
        span_id=span.span_id,
        name=span.name,
        kind=enum_name(traces_pb2.SpanKind.DESCRIPTOR, span.kind).lower(),
        service=span.service,
        colour=services[span.service],
        depth=depth,
        left=round(100 * ((begin - start) / timedelta(microseconds=1)) / whole, 3),
        right=round(100 * ((max(begin, end) - start) / timedelta(microseconds=1)) / whole, 3),
        start=begin,
        duration=end - begin,
        error=span.error,
        error_message=span.error_message,
        orphan=bool(span.parent_span_id) and span.parent_span_id not in by_id,
        attributes=tuple(sorted(span.attributes.items())),
        links=tuple((link.trace_id, link.span_id) for link in span.links),
    )
