"""A trace as a tree, and whether it is whole. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rich.text import Text
from rich.tree import Tree
from waybill.traces.v1 import traces_pb2

from waybill_cli.logs import colour_of

_SEND, _SETTLE = "send ", "settle "
_FINAL = {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}


def rendered(spans: Sequence[traces_pb2.Span]) -> Tree:
    """Every span under its parent, by start; one whose parent is not there stands at the top and says so."""
    known = {span.span_id for span in spans}
    children: Mapping[str, list[traces_pb2.Span]] = _by_parent(spans)
    begin = min((span.start_time.ToDatetime(UTC) for span in spans), default=datetime.now(UTC))
    tree = Tree(heading(spans), guide_style="dim")
    tops = [span for span in _in_order(spans) if span.parent_span_id not in known]
    pending = [(tree, span) for span in reversed(tops)]
    while pending:
        parent, span = pending.pop()
        node = parent.add(_label(span, begin, orphan=bool(span.parent_span_id) and span.parent_span_id not in known))
        pending += [(node, child) for child in reversed(children.get(span.span_id, []))]
    return tree


def heading(spans: Sequence[traces_pb2.Span]) -> Text:
    """`12 spans, 3 services, 4.2 s`."""
    services = {span.service for span in spans}
    begin = min((span.start_time.ToNanoseconds() for span in spans), default=0)
    end = max((span.end_time.ToNanoseconds() for span in spans), default=0)
    lasted = duration_text(timedelta(microseconds=(end - begin) / 1_000))
    text = f"{len(spans)} spans, {len(services)} services ({', '.join(sorted(services))}), {lasted}"
    if lost := len(orphans(spans)):
        return Text(f"{text}, {lost} orphans", style="bold red")
    return Text(text, style="bold")


def orphans(spans: Iterable[traces_pb2.Span]) -> list[traces_pb2.Span]:
    """Spans whose parent is not there."""
    every = list(spans)
    known = {span.span_id for span in every}
    return [span for span in every if span.parent_span_id and span.parent_span_id not in known]


def what_is_missing(spans: Iterable[traces_pb2.Span], services: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Why the trace is not whole yet, in words; empty when it is.

    Whole: a span of each service, no orphan, and for every operation that is sent in it, or that is
    `known` to belong to it, a `settle` span with a final state.
    """
    every = list(spans)
    silent = sorted(set(services) - {span.service for span in every})
    settled = _operations(every, lambda span: span.name.startswith(_SETTLE) and _state(span) in _FINAL)
    sent = _operations(every, lambda span: span.name.startswith(_SEND))
    lost = orphans(every)
    return [
        *(f"no span of {service}" for service in silent),
        *(f"{len(lost)} orphans" for _ in lost[:1]),
        *(f"{name} has not settled" for name in sorted({*sent, *known} - settled)),
    ]


def _operations(spans: Iterable[traces_pb2.Span], wanted: Callable[[traces_pb2.Span], bool]) -> set[str]:
    named = (span.attributes.get("waybill.operation", "") for span in spans if wanted(span))
    return {name for name in named if name}


def _state(span: traces_pb2.Span) -> str:
    return span.attributes.get("waybill.state", "")


def duration_text(lasted: timedelta) -> str:
    """`0 s`, `850 µs`, `12 ms`, `3.4 s`, `2 min 5 s`."""
    seconds = lasted.total_seconds()
    if not seconds:
        return "0 s"
    if seconds < 0.001:  # noqa: PLR2004 - a millisecond
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _by_parent(spans: Iterable[traces_pb2.Span]) -> Mapping[str, list[traces_pb2.Span]]:
    children: defaultdict[str, list[traces_pb2.Span]] = defaultdict(list)
    for span in _in_order(spans):
        children[span.parent_span_id].append(span)
    return children


def _in_order(spans: Iterable[traces_pb2.Span]) -> list[traces_pb2.Span]:
    return sorted(spans, key=lambda span: (span.start_time.ToNanoseconds(), span.span_id))


def _label(span: traces_pb2.Span, begin: datetime, *, orphan: bool) -> Text:
    start = span.start_time.ToDatetime(UTC)
    lasted = span.end_time.ToDatetime(UTC) - start
    text = Text(f"{span.service:<9}", style=colour_of(span.service))
    text.append(_short(span.name), style="bold red" if span.error else "bold default")
    lasting = f"{duration_text(lasted)} " if lasted else ""
    text.append(f"  {lasting}at +{duration_text(start - begin)}", style="dim")
    for note in _notes(span):
        text.append(f"  {note}", style="default")
    if span.error:
        text.append(f"  {span.error_message or 'error'}", style="red")
    if orphan:
        text.append(f"  ORPHAN of {span.parent_span_id}", style="bold red")
    return text


def _short(name: str) -> str:
    """A method without its package: `ReportsService/RenderReport`."""
    service, slash, method = name.partition("/")
    return f"{service.rpartition('.')[2]}/{method}" if slash else name


def _notes(span: traces_pb2.Span) -> list[str]:
    attempt, state = span.attributes.get("waybill.attempt"), _state(span)
    return [
        *([f"attempt {attempt}"] if attempt else []),
        *([state] if state else []),
        *([f"{len(span.links)} {'link' if len(span.links) == 1 else 'links'}"] if span.links else []),
    ]
