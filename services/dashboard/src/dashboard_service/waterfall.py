"""The spans of a trace as the rows of a waterfall. Pure.

A trace may wait for minutes between two bursts of milliseconds: stretches in which no span runs are drawn folded,
so that the bursts can be read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from google.protobuf.timestamp_pb2 import Timestamp
from waybill.traces.v1 import traces_pb2

from dashboard_service.operation_rows import enum_name

TICKS = 4
MAX_ROWS = 2_000
COLOURS = 6
# A folded stretch is as wide as this share of all the time in which a span runs; one is folded that is twice as long.
FOLD = 0.1
_LABEL_PERCENT = 9.0


@dataclass(frozen=True, slots=True)
class Row:
    """One span; `left` and `right` are percent of the drawing's width."""

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
class Fold:
    """A stretch without a span; `left` and `right` are where it is drawn, `length` is how long it was."""

    left: float
    right: float
    length: timedelta


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A trace, ready to draw."""

    rows: Sequence[Row]
    start: datetime
    length: timedelta
    services: Sequence[tuple[str, int]]
    ticks: Sequence[tuple[float, timedelta]]
    # The least time between two ticks.
    step: timedelta
    folds: Sequence[Fold]
    errors: int
    hidden: int


def build(spans: Iterable[traces_pb2.Span]) -> Waterfall | None:
    """Depth first, siblings by start time; a span whose parent is not here is a root, marked. None for no spans."""
    by_id = {span.span_id: span for span in spans}
    if not by_id:
        return None
    scale = Scale.of([(_at(span.start_time), _at(span.end_time)) for span in by_id.values()])
    services = _colours(by_id.values())
    rows = [_row(span, depth, by_id, services, scale) for span, depth in _ordered(by_id)]
    return Waterfall(
        rows=rows[:MAX_ROWS],
        start=scale.start,
        length=scale.length,
        services=tuple(services.items()),
        ticks=scale.ticks,
        step=min((later - sooner for (_, sooner), (_, later) in pairwise(scale.ticks)), default=scale.length),
        folds=scale.folds,
        errors=sum(row.error for row in rows),
        hidden=max(0, len(rows) - MAX_ROWS),
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """From instants to percent. `knots` are (time since the start, drawn time): linear between two of them."""

    start: datetime
    length: timedelta
    knots: Sequence[tuple[timedelta, timedelta]]
    folds: Sequence[Fold]

    @classmethod
    def of(cls, spans: Sequence[tuple[datetime, datetime]]) -> Scale:
        start = min(begin for begin, _ in spans)
        busy = _busy([(begin - start, max(begin, end) - start) for begin, end in spans])
        fold = FOLD * sum((end - begin for begin, end in busy), timedelta())
        knots, folded, drawn = [(timedelta(), timedelta())], [], busy[0][1]
        for (_, idle_from), (idle_to, busy_to) in pairwise(busy):
            idle = idle_to - idle_from
            knots.append((idle_from, drawn))
            if fold and idle > 2 * fold:
                folded.append((drawn, drawn + fold, idle))
                drawn += fold
            else:
                drawn += idle
            knots.append((idle_to, drawn))
            drawn += busy_to - idle_to
        knots.append((busy[-1][1], drawn))
        folds = [Fold(_percent(left, drawn), _percent(right, drawn), idle) for left, right, idle in folded]
        return cls(start, busy[-1][1], knots, folds)

    def percent(self, at: datetime) -> float:
        """Where an instant is drawn."""
        return _percent(_between(self.knots, at - self.start), self.knots[-1][1])

    @property
    def ticks(self) -> list[tuple[float, timedelta]]:
        """Percent and time since the start, where no fold's label is in the way."""
        drawn = [(by, at) for at, by in self.knots]
        places = [100.0 * step / TICKS for step in range(TICKS + 1)]
        free = [each for each in places if all(abs(each - _middle(fold)) >= _LABEL_PERCENT for fold in self.folds)]
        return [(each, _between(drawn, self.knots[-1][1] * (each / 100))) for each in free]


def _busy(spans: Sequence[tuple[timedelta, timedelta]]) -> list[tuple[timedelta, timedelta]]:
    """The stretches in which at least one span runs."""
    merged: list[tuple[timedelta, timedelta]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _between(knots: Sequence[tuple[timedelta, timedelta]], at: timedelta) -> timedelta:
    index = min(max(1, bisect_right(knots, at, key=lambda knot: knot[0])), len(knots) - 1)
    (begin, low), (end, high) = knots[index - 1], knots[index]
    return low if end == begin else low + (high - low) * ((at - begin) / (end - begin))


def _percent(part: timedelta, whole: timedelta) -> float:
    return round(100 * (part / whole), 3) if whole else 0.0


def _middle(fold: Fold) -> float:
    return (fold.left + fold.right) / 2


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
    scale: Scale,
) -> Row:
    begin, end = _at(span.start_time), _at(span.end_time)
    return Row(
        span_id=span.span_id,
        name=span.name,
        kind=enum_name(traces_pb2.SpanKind.DESCRIPTOR, span.kind).lower(),
        service=span.service,
        colour=services[span.service],
        depth=depth,
        left=scale.percent(begin),
        right=scale.percent(max(begin, end)),
        start=begin,
        duration=end - begin,
        error=span.error,
        error_message=span.error_message,
        orphan=bool(span.parent_span_id) and span.parent_span_id not in by_id,
        attributes=tuple(sorted(span.attributes.items())),
        links=tuple((link.trace_id, link.span_id) for link in span.links),
    )
