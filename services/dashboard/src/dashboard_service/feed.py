"""The recent events of one service, in order, and who is shown each further one.

Guarantee: a listener that attaches after a cursor is offered every entry behind it, once, in order;
where that position is no longer (or not yet) held here, `attach` says so and nothing is offered.
"""

import json
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from waybill.events.v1 import events_pb2

from dashboard_service.formatting import unix_ms
from dashboard_service.operation_rows import instant, of_change

KEPT = 4_096

Kind = Literal["change", "fact", "position", "resync", "service"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to show; `json` is what the browser is given. A position has nothing to show."""

    service: str
    kind: Kind
    cursor: str = ""
    json: str = ""
    operation: str = ""
    parent: str = ""


class Listener(Protocol):
    """Who is shown entries, until it has ended."""

    @property
    def ended(self) -> bool:
        """Whether it takes nothing any more."""

    def offer(self, entry: Entry) -> None:
        """Take an entry without blocking."""


class Feed:
    """Written by the service's follower, read by every stream."""

    def __init__(self, service: str, kept: int = KEPT) -> None:
        self.service = service
        self._entries: deque[Entry] = deque(maxlen=kept)
        self._cursors: set[str] = set()
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    def publish(self, entry: Entry) -> None:
        """Keep an entry that has a cursor; offer every entry."""
        with self._lock:
            if entry.cursor and entry.cursor in self._cursors:
                return
            if entry.cursor:
                self._keep(entry)
            for listener in self._listeners:
                listener.offer(entry)
            if any(listener.ended for listener in self._listeners):
                self._listeners = [each for each in self._listeners if not each.ended]

    def attach(self, listener: Listener, after: str) -> bool:
        """Offer what is behind the cursor and then every further entry; False where the cursor is not held."""
        with self._lock:
            if after not in self._cursors:
                return False
            behind = False
            for entry in self._entries:
                if behind:
                    listener.offer(entry)
                behind = behind or entry.cursor == after
            self._listeners.append(listener)
            return True

    def join(self, listener: Listener) -> None:
        """Offer every further entry."""
        with self._lock:
            self._listeners.append(listener)

    def detach(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [each for each in self._listeners if each is not listener]

    def forget(self) -> None:
        """Drop what is kept: what follows is not the continuation."""
        with self._lock:
            self._entries.clear()
            self._cursors.clear()

    def _keep(self, entry: Entry) -> None:
        if len(self._entries) == self._entries.maxlen:
            self._cursors.discard(self._entries[0].cursor)
        self._entries.append(entry)
        self._cursors.add(entry.cursor)


def read(service: str, response: events_pb2.SubscribeResponse) -> Entry:
    """An answer of EventService/Subscribe as an entry."""
    if not response.HasField("event"):
        return Entry(service, "position", response.cursor)
    event = response.event
    change = events_pb2.OperationChanged()
    if event.data.Unpack(change):
        shown = {**of_change(change, instant(event.time)).as_json(), **_about(event)}
        return Entry(service, "change", response.cursor, _json(shown), change.operation, change.parent)
    return Entry(service, "fact", response.cursor, _json({"service": service, **_about(event)}), event.subject)


def resync(service: str) -> Entry:
    """Says that events are missing: what is shown must be asked for anew."""
    return Entry(service, "resync", json=_json({"service": service}))


def service_state(service: str, *, up: bool, detail: str = "") -> Entry:
    """Says that a service's events do or do not arrive."""
    return Entry(service, "service", json=_json({"service": service, "up": up, "detail": detail}))


def verb(event_type: str) -> str:
    """The past verb: the last part of the type."""
    return event_type.rpartition(".")[2]


def _about(event: events_pb2.Event) -> dict[str, Any]:
    return {
        "event": event.id,
        "type": event.type,
        "verb": verb(event.type),
        "subject": event.subject,
        "at": unix_ms(instant(event.time)),
        "trace": event.traceparent.split("-")[1] if event.traceparent.count("-") == 3 else "",  # noqa: PLR2004
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
