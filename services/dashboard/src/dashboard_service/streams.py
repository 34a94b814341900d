"""What one browser is sent: entries in order, the newest sample, and where it stands.

Guarantee: the id of each frame covers exactly what was sent up to it, so that a browser that comes back with
its last id misses nothing and sees nothing twice. A browser that is too slow is ended, never skipped over.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from dashboard_service import cursors
from dashboard_service.feed import Entry
from dashboard_service.samples import Sample

MAX_WAITING = 10_000
MAX_BATCH = 500
# Entries of one burst go out together.
LINGER_SECONDS = 0.01
# Something is sent at least so often, so that a browser that has gone is noticed.
HEARTBEAT_SECONDS = 10.0
RETRY_MS = 1_000

_EVENT_NAMES = {"change": "operations", "fact": "facts", "resync": "resync", "service": "service"}


@dataclass(frozen=True, slots=True)
class Batch:
    """What has come since the last one; `ended` when nothing will follow."""

    entries: Sequence[Entry]
    sample: Sample | None
    ended: bool


class Stream:
    """A bounded buffer between the feeds and the thread that writes to one browser."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._entries: deque[Entry] = deque()
        self._sample: Sample | None = None
        self._woken = False
        self._max_waiting = max_waiting
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._on_end: list[Callable[[], object]] = []

    @property
    def ended(self) -> bool:
        """Whether it takes no more entries."""
        return self._ended.is_set()

    def offer(self, entry: Entry) -> None:
        """Take an entry; end the stream where it is full."""
        with self._changed:
            if self.ended:
                return
            if len(self._entries) >= self._max_waiting:
                self._ended.set()
            else:
                self._entries.append(entry)
            self._changed.notify_all()

    def push(self, entry: Entry) -> bool:
        """Take an entry once there is room; False when the stream has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended or len(self._entries) < self._max_waiting // 2)
            if self.ended:
                return False
            self._entries.append(entry)
            self._changed.notify_all()
            return True

    def tick(self, sample: Sample) -> None:
        """Take the newest sample in the place of one that has not been sent."""
        with self._changed:
            self._sample = sample
            self._changed.notify_all()

    def wake(self) -> None:
        """Let `take` return, although there is nothing to send."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def take(self, timeout_seconds: float = HEARTBEAT_SECONDS) -> Batch:
        """Wait for something to send; an empty batch when the time is over."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout_seconds)
            if self._entries and not self.ended:
                self._changed.wait_for(lambda: self.ended or len(self._entries) >= MAX_BATCH, LINGER_SECONDS)
            taken = [self._entries.popleft() for _ in range(min(MAX_BATCH, len(self._entries)))]
            sample, self._sample, self._woken = self._sample, None, False
            self._changed.notify_all()
            return Batch(taken, sample, self.ended and not self._entries)

    def _has_news(self) -> bool:
        return self.ended or self._woken or bool(self._entries) or self._sample is not None

    def on_end(self, action: Callable[[], object]) -> None:
        """Run `action` when the stream ends; at once when it has."""
        with self._changed:
            if not self.ended:
                self._on_end.append(action)
                return
        action()

    def wait_ended(self, timeout_seconds: float) -> bool:
        return self._ended.wait(timeout_seconds)

    def close(self) -> None:
        """Take nothing more and run what waits for the end."""
        with self._changed:
            self._ended.set()
            actions, self._on_end = self._on_end, []
            self._changed.notify_all()
        for action in actions:
            action()


def frame(event: str, data: str, identity: str = "") -> bytes:
    """One server-sent event. JSON has no line breaks; data that has them is split as the format asks."""
    lines = [f"id: {identity}"] if identity else []
    lines += [f"event: {event}", *(f"data: {line}" for line in data.splitlines() or [""])]
    return ("\n".join(lines) + "\n\n").encode()


def opening() -> bytes:
    """What a stream begins with."""
    return f"retry: {RETRY_MS}\n\n".encode()


class Position:
    """Where a browser stands, as frames are made for it."""

    def __init__(self, start: Mapping[str, str]) -> None:
        self._cursors = dict(start)

    @property
    def identity(self) -> str:
        return cursors.encode(self._cursors)

    def frames(self, entries: Sequence[Entry], wanted: Callable[[Entry], bool]) -> Iterator[bytes]:
        """Frames for the wanted entries; their ids cover the others too."""
        for kind, group in groupby(entries, key=lambda entry: entry.kind):
            shown = [entry.json for entry in self._advance(group) if kind != "position" and wanted(entry)]
            if kind in ("change", "fact") and shown:
                yield frame(_EVENT_NAMES[kind], f"[{','.join(shown)}]", self.identity)
            elif shown:
                yield from (frame(_EVENT_NAMES[kind], each) for each in shown)

    def heartbeat(self) -> bytes:
        """Moves the browser's last id on and shows nothing."""
        identity = self.identity
        return f"id: {identity}\n\n".encode() if identity else b":\n\n"

    def _advance(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.kind == "resync":
                self._cursors.pop(entry.service, None)
            elif entry.cursor:
                self._cursors[entry.service] = entry.cursor
            yield entry
