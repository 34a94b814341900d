"""The stream that moves the pages: server-sent events that a browser resumes by Last-Event-ID.

| event | data | |
|---|---|---|
| `operations` | array of rows with what happened to each | has an id |
| `facts` | array of events that are not about one operation | has an id |
| `sample` | health by service, dead letters in all | |
| `panel` | `{"html": ...}`: the part of the page that moves | |
| `service` | `{"service", "up", "detail"}`: its events do, or do not, arrive | |
| `resync` | `{"service"}`: events are missing; ask for the page anew | |
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import grpc
from chassis.errors import FieldViolation, InvalidArgument, WaybillError
from flask import Blueprint, Response, request, stream_with_context

from dashboard_service import cursors, login
from dashboard_service.context import current
from dashboard_service.feed import Entry
from dashboard_service.live import is_about
from dashboard_service.samples import Sample
from dashboard_service.streams import HEARTBEAT_SECONDS, Batch, Position, Stream, frame, opening
from dashboard_service.views import alerts, dead_letters, operations, overview, queues, traces, workers

PANELS: Mapping[str, Callable[[], str]] = {
    "overview": overview.panel,
    "operation": operations.panel,
    "operations": operations.table_panel,
    "trace": traces.panel,
    "queues": queues.panel,
    "workers": workers.panel,
    "dead-letters": dead_letters.panel,
    "alerts": alerts.panel,
}
# A panel that every change would redraw is drawn at most so often.
PANEL_SECONDS = 0.25

blueprint = Blueprint("live", __name__)


@blueprint.get("/live")
def stream() -> Response:
    """Open a stream from `Last-Event-ID` or `cursor` on; `panel` and its arguments name what is drawn."""
    start = cursors.decode(request.headers.get("Last-Event-ID") or request.args.get("cursor", ""), "Last-Event-ID")
    panel = _panel(request.args.get("panel", ""))
    trace_id = request.args.get("trace", "")
    if trace_id:
        traces.check(trace_id)
    hub = current().hub
    opened = hub.open(start)
    if trace_id:
        opened.on_end(traces.watch(trace_id, partial(_span_arrived, opened, panel)))
    frames = stream_with_context(_frames(opened, Position(start), panel))
    response = Response(frames, mimetype="text/event-stream")
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    response.call_on_close(lambda: hub.close(opened))
    return response


class Panel:
    """Part of a page, drawn again when something has happened that may show in it."""

    def __init__(self, draw: Callable[[], str] | None) -> None:
        self._draw = draw
        self._due = draw is not None
        self._drawn_at = 0.0
        self._shown = b""

    @property
    def patience_seconds(self) -> float:
        """How long nothing need be done for it."""
        return PANEL_SECONDS if self._due else HEARTBEAT_SECONDS

    def mark(self) -> None:
        """Something has happened."""
        self._due = self._draw is not None

    def frames(self) -> Iterator[bytes]:
        """The panel, where it is due and looks other than before."""
        if self._draw is None or not self._due or time.monotonic() - self._drawn_at < PANEL_SECONDS:
            return
        self._due, self._drawn_at = False, time.monotonic()
        try:
            html = self._draw()
        except (grpc.RpcError, WaybillError):
            return  # what is shown stays; the stream itself says that the service is gone
        digest = hashlib.sha256(html.encode()).digest()
        if digest != self._shown:
            self._shown = digest
            yield frame("panel", json.dumps({"html": html}, ensure_ascii=False))


def _span_arrived(opened: Stream, panel: Panel) -> None:
    panel.mark()
    opened.wake()


def _panel(name: str) -> Panel:
    if name and name not in PANELS:
        raise InvalidArgument([FieldViolation("panel", f"expected one of {', '.join(PANELS)}")])
    return Panel(PANELS.get(name))


def _frames(opened: Stream, position: Position, panel: Panel) -> Iterator[bytes]:
    wanted = _wanted()
    yield opening()
    yield from panel.frames()
    while True:
        batch = opened.take(panel.patience_seconds)
        if _moves_panel(batch):
            panel.mark()
        sent = [*position.frames(batch.entries, wanted), *panel.frames()]
        if batch.sample is not None:
            sent.append(frame("sample", json.dumps(_summary(batch.sample))))
        yield from sent or (position.heartbeat(),)
        if batch.ended or not login.still_admitted():
            return


def _wanted() -> Callable[[Entry], bool]:
    """Which entries the browser is shown: all changes, those of one operation, or none."""
    changes, operation = request.args.get("changes", ""), request.args.get("operation", "")
    if operation:
        return lambda entry: entry.kind not in ("change", "fact") or is_about(entry, operation)
    return lambda entry: changes == "all" or entry.kind not in ("change", "fact")


def _moves_panel(batch: Batch) -> bool:
    operation = request.args.get("operation", "")
    return batch.sample is not None or any(operation and is_about(entry, operation) for entry in batch.entries)


def _summary(sample: Sample) -> dict[str, Any]:
    return {"health": dict(sample.health), "dead": sample.dead_total}
