"""Lists of operations: newest first, a page at a time, over an index of the store and the archive."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from waybill.operations.v1 import operations_pb2 as ops

from chassis import paging
from chassis.descriptions import FINAL, StoredOperation, record_of, text
from chassis.errors import FieldViolation, InvalidArgument
from chassis.history import Archive, Condition, Position
from chassis.store import AsyncStore

CHUNK: Final = 200
#: Most operations that one page looks at; a filter that matches little gives short pages with a token.
SCAN_LIMIT: Final = 5_000
_TERM: Final = re.compile(
    r"""\s*(?P<field>[a-z_]+(?:\.[a-z0-9_.-]+)?)\s*=\s*(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"]+))\s*"""
)
_AND: Final = re.compile(r"AND\s+")

#: As a condition has them.
_FINAL: Final = frozenset(map(str, FINAL))

Predicate = Callable[[StoredOperation], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations are wanted. `conditions` are what the archive can choose by; `matches` has the last word."""

    matches: Predicate
    conditions: Sequence[Condition] = ()

    @property
    def archived(self) -> bool:
        """Whether the archive may have any: not where a state is asked for that is not final."""
        return all(value in _FINAL for field, value in self.conditions if field == "state")


@dataclass(frozen=True, slots=True)
class Page:
    """Operations of one page, and where the next begins; empty on the last."""

    operations: list[StoredOperation]
    next_page_token: str


class _Found(NamedTuple):
    position: Position
    #: None: gone since its index was read.
    stored: StoredOperation | None


def parse_filter(expression: str) -> Filter:
    """Reads `state = FAILED AND task = "reports.render_report" AND labels.team = sre`; else InvalidArgument.

    Fields: state, task, queue, request_id, trace_id, parent, labels.<key>.
    """
    if not expression.strip():
        return Filter(lambda _: True)
    parsed = [_term(match) for match in _terms(expression)]
    predicates = [predicate for _, predicate in parsed]
    return Filter(
        lambda stored: all(predicate(stored) for predicate in predicates), [condition for condition, _ in parsed]
    )


async def list_page(
    store: AsyncStore, index: str, wanted: Filter, *, size: int, token: str, archive: Archive | None = None
) -> Page:
    """One page of an index (`ops` or `dead`) over both sources. The token names the last operation looked at.

    Raises SQLAlchemyError when the archive is out of reach, unless it is not needed: it has nothing that is live.
    """
    archive = archive if wanted.archived else None
    found: list[StoredOperation] = []
    looked = 0
    async for position, stored in _scan(_Sources(store, archive, index, wanted.conditions), _position(token)):
        if stored and wanted.matches(stored):
            found.append(stored)
        looked += 1
        if len(found) == size or looked >= SCAN_LIMIT:
            return Page(found, paging.encode(position))
    return Page(found, "")


async def _scan(sources: _Sources, start: Position | None) -> AsyncIterator[_Found]:
    """What comes after `start`, each once, whatever is added, archived or deleted meanwhile.

    Each stretch of positions is read from the store first and from the archive then: what has left the store before
    is in the archive by then.
    """
    last = start
    while True:
        live, live_end = await sources.live(last)
        kept, kept_end = await sources.archived(last, live_end)
        end = max(filter(None, (live_end, kept_end)), default=None)
        # Of one position: what the store has, else what the archive has, else that it is gone.
        found = {one.position: one for one in (*live, *kept, *(one for one in live if one.stored))}
        for position in sorted(found, reverse=True):
            if end is None or position >= end:
                yield found[position]
        if end is None:
            return
        last = end


@dataclass(frozen=True, slots=True)
class _Sources:
    """The store's index and the archive. A chunk comes with the position up to which it tells all; None: to the end."""

    store: AsyncStore
    archive: Archive | None
    index: str
    conditions: Sequence[Condition]

    async def live(self, after: Position | None) -> tuple[list[_Found], Position | None]:
        positions, end = await self._positions(after)
        pipeline = self.store.client.pipeline(transaction=False)
        for _, operation_id in positions:
            pipeline.hgetall(self.store.keys.operation(operation_id))
        hashes = await pipeline.execute() if positions else []
        return [_Found(position, stored or None) for position, stored in zip(positions, hashes, strict=True)], end

    async def _positions(self, after: Position | None) -> tuple[list[Position], Position | None]:
        highest: float | str = "+inf" if after is None else after[0]
        offset = 0
        while True:
            chunk = await self.store.client.zrevrangebyscore(
                self.store.keys.named(self.index), highest, "-inf", start=offset, num=CHUNK, withscores=True
            )
            positions = [(int(score), member.decode()) for member, score in chunk]
            fresh = [position for position in positions if after is None or position < after]
            if len(chunk) < CHUNK:
                return fresh, None
            if fresh:
                return fresh, fresh[-1]
            # Of one instant there may be more than a chunk: those are passed by their number.
            offset += CHUNK

    async def archived(self, after: Position | None, until: Position | None) -> tuple[list[_Found], Position | None]:
        if self.archive is None:
            return [], None
        read = partial(self.archive.page, self.index, self.conditions, after=after, until=until, limit=CHUNK)
        found = [_Found(position, stored) for position, stored in await asyncio.to_thread(read)]
        return found, found[-1].position if len(found) == CHUNK else until


def _position(token: str) -> Position | None:
    if not token:
        return None
    instant, operation_id = paging.decode(token, int, str)
    return instant, operation_id


def _terms(expression: str) -> Iterator[re.Match[str]]:
    """`field = value`, joined by AND. Raises InvalidArgument where anything else stands."""
    position = 0
    while match := _TERM.match(expression, position):
        yield match
        if match.end() == len(expression):
            return
        joint = _AND.match(expression, match.end())
        position = joint.end() if joint else len(expression)
    rest = expression[position:] or expression
    raise InvalidArgument([FieldViolation("filter", f"cannot read {rest!r}; expected field = value, joined by AND")])


def _term(match: re.Match[str]) -> tuple[Condition, Predicate]:
    name = match["field"]
    value = match["quoted"] if match["quoted"] is not None else match["bare"]
    if name == "state":
        state = _state(value)
        return (name, state), lambda stored: stored.get(b"st") == state.encode()
    if name.startswith("labels."):
        key = name.removeprefix("labels.")
        return (name, value), lambda stored: record_of(stored).labels.get(key) == value
    if name in _FIELDS:
        read = _FIELDS[name]
        return (name, value), lambda stored: read(stored) == value
    known = ", ".join(["state", *_FIELDS, "labels.<key>"])
    raise InvalidArgument([FieldViolation("filter", f"{name!r} is not a field of operations; known: {known}")])


def _state(value: str) -> str:
    """Its number, as the store writes it."""
    name = value.upper().removeprefix("OPERATION_STATE_")
    try:
        return str(ops.OperationState.Value(f"OPERATION_STATE_{name}"))
    except ValueError:
        raise InvalidArgument([FieldViolation("filter", f"{value!r} is not a state")]) from None


_FIELDS: Final[dict[str, Callable[[StoredOperation], str]]] = {
    "task": lambda stored: text(stored, b"task"),
    "queue": lambda stored: text(stored, b"q"),
    "request_id": lambda stored: record_of(stored).request_id,
    "trace_id": lambda stored: text(stored, b"tr").partition("/")[0],
    "parent": lambda stored: record_of(stored).parent,
}
