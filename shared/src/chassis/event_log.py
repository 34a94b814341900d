"""The event log of a service: one Redis stream with every state change and every published event, in order.

An entry's id is a cursor; it is the same on every replica of the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.descriptions import operation_name, set_time
from chassis.errors import OutOfRange
from chassis.logging import get_logger
from chassis.store import AsyncStore

log = get_logger(__name__)

READ_COUNT: Final = 500
#: Below the connection's socket timeout, so that a silent server is noticed.
BLOCK_MILLISECONDS: Final = 2000
#: Entries that come within so long are read together.
GATHER_SECONDS: Final = 0.004
#: Newest entries that a gateway keeps, at least; twice as many at most, each about a kilobyte.
KEPT: Final = 2000
FINAL_VERBS: Final = frozenset({b"succeeded", b"failed", b"cancelled", b"expired"})
_CHANGE_URL: Final = f"type.googleapis.com/{events_pb2.OperationChanged.DESCRIPTOR.full_name}"
_CURSOR: Final = re.compile(r"\d{1,16}-\d{1,20}")

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log: a state change (`verb`) or a published event (`published`)."""

    cursor: str
    fields: Fields

    @property
    def verb(self) -> bytes:
        return self.fields.get(b"v", b"")

    @property
    def operation_id(self) -> str:
        return self.fields.get(b"id", b"").decode()

    @property
    def time_us(self) -> int:
        """When it was written, to the millisecond."""
        return int(self.cursor.partition("-")[0]) * 1000

    @property
    def published(self) -> store_pb2.PublishedEvent | None:
        serialized = self.fields.get(b"e")
        return None if serialized is None else store_pb2.PublishedEvent.FromString(serialized)

    def type_of(self, service: str) -> str:
        if self.verb:
            return f"waybill.{service}.operation.{self.verb.decode()}"
        return self.fields.get(b"ty", b"").decode()

    def write(self, service: str, event: events_pb2.Event) -> None:
        """Into an event that is empty: what is filled where it lies need not be copied there."""
        published = self.published
        if published is not None:
            event.CopyFrom(published.event)
        else:
            write_state_change(service, self, event)


def write_state_change(service: str, entry: Entry, event: events_pb2.Event) -> None:
    """The CloudEvents form of an operation's state change."""
    fields = entry.fields
    trace_id, _, send_span = _text(fields, b"tr").partition("/")
    name = operation_name(service, entry.operation_id)
    state = int(fields.get(b"st", b"0"))
    change = events_pb2.OperationChanged(
        operation=name,
        state=state,  # type: ignore[arg-type]
        task=_text(fields, b"task"),
        queue=_text(fields, b"q"),
        priority=int(fields.get(b"pr", b"0")),  # type: ignore[arg-type]
        attempt=int(fields.get(b"at", b"0")),
        max_attempts=int(fields.get(b"max", b"0")),
        worker=_text(fields, b"w"),
        trace_id=trace_id,
    )
    set_time(change.create_time, int(fields.get(b"ct", b"0")))
    if b"ec" in fields and state != ops.OPERATION_STATE_SUCCEEDED:
        change.error_code, change.error_message = int(fields[b"ec"] or b"0"), _text(fields, b"em")
    if b"par" in fields:
        change.parent = operation_name(service, _text(fields, b"par"))
    if b"due" in fields:
        set_time(change.schedule_time, int(fields[b"due"]))
    if b"pct" in fields:
        change.progress.percent = int(fields[b"pct"])
        change.progress.message = _text(fields, b"msg")
    event.id = f"{service}/{entry.cursor}"
    event.source = f"/waybill/{service}"
    event.type = entry.type_of(service)
    set_time(event.time, entry.time_us)
    event.subject = name
    event.traceparent = f"00-{trace_id}-{send_span}-01" if trace_id else ""
    # As `Pack` does it, which looks the type's name up each time.
    event.data.type_url, event.data.value = _CHANGE_URL, change.SerializeToString()


def type_filter(patterns: list[str]) -> Callable[[str], bool]:
    """Whether a type is wanted: all of them without patterns; a trailing `*` matches any ending."""
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    if not patterns:
        return lambda _: True
    return lambda type_: type_ in exact or type_.startswith(prefixes)


@dataclass(slots=True)
class EventLog:
    """Reads the log for everybody in a gateway. One connection blocks on it; who follows its end reads from memory."""

    store: AsyncStore
    kept: int = KEPT
    _grown: asyncio.Event = field(default_factory=asyncio.Event)
    _waiters: dict[str, set[asyncio.Future[None]]] = field(default_factory=dict)
    _tail: str = ""
    #: The newest entries, without a gap from `_kept_after` to `_tail`.
    _kept: list[Entry] = field(default_factory=list)
    _kept_after: str = ""

    async def run(self) -> None:
        """Follow the end of the log until cancelled; reconnects by itself."""
        while True:
            try:
                if not self._tail:
                    self._tail = self._kept_after = await self.end()
                self._keep(await self._fetch(self._tail, block=BLOCK_MILLISECONDS))
                await asyncio.sleep(GATHER_SECONDS)
            except RedisError as error:
                log.warning("event_log.unreachable", error=str(error))
                await asyncio.sleep(0.5)

    async def end(self) -> str:
        """The cursor behind the newest entry that there ever was; trimming does not move it."""
        try:
            facts = await self.store.client.xinfo_stream(self._key)
        except ResponseError:  # there is no stream before the first entry
            return "0-0"
        newest: bytes = facts["last-generated-id"]
        return newest.decode()

    async def check(self, cursor: str) -> None:
        """Raises OutOfRange with CURSOR_EXPIRED for a well-formed cursor that is kept no longer."""
        trimmed = int(await self.store.client.get(self.store.keys.named("events:trimmed")) or 0)
        end = await self.end()
        if (order(cursor)[0] < trimmed and cursor != end) or order(cursor) > order(end):
            raise OutOfRange(
                "events after this cursor are kept no longer; take a ListOperations snapshot and go on from its cursor",
                reason="CURSOR_EXPIRED",
                metadata={"cursor": cursor},
            )

    async def follow(
        self, cursor: str, *, patience: float, min_interval: float = 0.0
    ) -> AsyncIterator[Sequence[Entry]]:
        """Every entry after the cursor, in order, as many at once as are known.

        Args:
            cursor: a position of this log.
            patience: seconds after which nothing is said to have come, by an empty list.
            min_interval: seconds to let pass, once the end is reached, before the next entries are looked for.
        """
        while True:
            grown = self._grown
            entries = await self.read(cursor)
            if entries:
                cursor = entries[-1].cursor
                yield entries
            else:
                try:
                    async with asyncio.timeout(patience):
                        await grown.wait()
                except TimeoutError:
                    yield []
            if min_interval and 0 < len(entries) < READ_COUNT:
                await asyncio.sleep(min_interval)

    @contextlib.contextmanager
    def finality(self, operation_id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done once the operation is in a final state, if it was not before."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(operation_id, set()).add(future)
        try:
            yield future
        finally:
            waiting = self._waiters.get(operation_id, set())
            waiting.discard(future)
            if not waiting:
                self._waiters.pop(operation_id, None)

    async def read(self, cursor: str) -> list[Entry]:
        """At most READ_COUNT entries after the cursor, as far as they are known here."""
        if self._kept_after and order(self._kept_after) <= order(cursor) <= order(self._tail):
            begin = bisect_right(self._kept, order(cursor), key=lambda entry: order(entry.cursor))
            return self._kept[begin : begin + READ_COUNT]
        return await self._fetch(cursor)

    async def _fetch(self, cursor: str, *, block: int | None = None) -> list[Entry]:
        blocking = () if block is None else ("BLOCK", block)
        answer = await self.store.lanes.execute("XREAD", "COUNT", READ_COUNT, *blocking, "STREAMS", self._key, cursor)
        return list(_entries(answer))

    def _keep(self, entries: list[Entry]) -> None:
        if not entries:
            return
        self._kept += entries
        self._tail = entries[-1].cursor
        if len(self._kept) > 2 * self.kept:
            self._kept_after = self._kept[-self.kept - 1].cursor
            self._kept = self._kept[-self.kept :]
        for entry in entries:
            if self._waiters and entry.verb in FINAL_VERBS:
                self._release(entry.operation_id)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _release(self, operation_id: str) -> None:
        for future in self._waiters.pop(operation_id, set()):
            if not future.done():
                future.set_result(None)

    @property
    def _key(self) -> str:
        return self.store.keys.named("events")


def is_cursor(text: str) -> bool:
    """Whether it has the form of a position."""
    return _CURSOR.fullmatch(text) is not None


def order(cursor: str) -> tuple[int, int]:
    """Sorts cursors."""
    milliseconds, _, sequence = cursor.partition("-")
    return int(milliseconds), int(sequence)


def _entries(answer: Any) -> Iterator[Entry]:
    """XREAD's answer about one stream, whichever protocol version gave it; empty when there is nothing."""
    streams = answer.values() if isinstance(answer, dict) else [found for _, found in answer or ()]
    for found in streams:
        for id_, fields in found:
            yield Entry(id_.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))


def _text(fields: Fields, key: bytes) -> str:
    return fields.get(key, b"").decode()
