"""Lists of operations: newest first, a page at a time, over an index of the store and the archive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from chassis import filters, paging
from chassis.descriptions import FINAL, StoredOperation
from chassis.facts import facts_of, matches
from chassis.history import Archive, Position, Selection
from chassis.store import AsyncStore

CHUNK: Final = 200
#: Most operations that one page looks at; a filter that matches little gives short pages with a token.
SCAN_LIMIT: Final = 5_000
#: After so long a page whose filter matches little in the archive is given as it is.
PAGE_SECONDS: Final = 0.15

Predicate = Callable[[StoredOperation], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which operations are wanted. The archive chooses by `selection`; `matches` has the last word."""

    matches: Predicate
    selection: Selection = field(default_factory=Selection)

    @property
    def archived(self) -> bool:
        """Whether the archive may have any: not where only states are asked for that are not final."""
        return any(filters.may_match(self.selection.expression, state) for state in FINAL)


@dataclass(frozen=True, slots=True)
class Page:
    """Operations of one page, and where the next begins; empty on the last."""

    operations: list[StoredOperation]
    next_page_token: str


class _Found(NamedTuple):
    position: Position
    #: None: gone since its index was read.
    stored: StoredOperation | None


class _Stretch(NamedTuple):
    """All that there is up to `end`; None: to the end of the list. `sparse`: much was looked at, little found."""

    found: list[_Found]
    end: Position | None
    sparse: bool


def parse_filter(expression: str) -> Filter:
    """Raises InvalidArgument on the field filter, with the position, for what is none. See docs/filters.md."""
    wanted = filters.read(expression)
    if wanted == filters.EVERYTHING:
        return Filter(lambda _: True)
    return Filter(lambda stored: matches(wanted, facts_of(stored)), Selection(wanted))


async def list_page(
    store: AsyncStore, index: str, wanted: Filter, *, size: int, token: str, archive: Archive | None = None
) -> Page:
    """One page of an index (`ops` or `dead`) over both sources. The token names the last position looked at.

    A filter that matches little gives short pages in time. Raises SQLAlchemyError when the archive is out of reach,
    unless it is not needed: it has nothing that is live.
    """
    archive = archive if wanted.archived else None
    found: list[StoredOperation] = []
    looked, until = 0, time.monotonic() + PAGE_SECONDS
    async for stretch in _scan(_Sources(store, archive, index, wanted.selection), _position(token)):
        for position, stored in stretch.found:
            if stored and wanted.matches(stored):
                found.append(stored)
            looked += 1
            if len(found) == size or looked >= SCAN_LIMIT:
                return Page(found, paging.encode(position))
        if stretch.end and stretch.sparse and time.monotonic() > until:
            return Page(found, paging.encode(stretch.end))
    return Page(found, "")


async def _scan(sources: _Sources, start: Position | None) -> AsyncIterator[_Stretch]:
    """What comes after `start`, each once, whatever is added, archived or deleted meanwhile.

    Each stretch of positions is read from the store first and from the archive then: what has left the store before
    is in the archive by then.
    """
    last = start
    while True:
        live, live_end = await sources.live(last)
        kept, kept_end, sparse = await sources.archived(last, live_end)
        end = max(filter(None, (live_end, kept_end)), default=None)
        # Of one position: what the store has, else what the archive has, else that it is gone.
        found = {one.position: one for one in (*live, *kept, *(one for one in live if one.stored))}
        positions = [position for position in sorted(found, reverse=True) if end is None or position >= end]
        yield _Stretch([found[position] for position in positions], end, sparse)
        if end is None:
            return
        last = end


@dataclass(frozen=True, slots=True)
class _Sources:
    """The store's index and the archive. A chunk comes with the position up to which it tells all; None: to the end."""

    store: AsyncStore
    archive: Archive | None
    index: str
    selection: Selection

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

    async def archived(self, after: Position | None, until: Position | None) -> _Stretch:
        if self.archive is None:
            return _Stretch([], None, sparse=False)
        read = partial(self.archive.page, self.index, self.selection, after=after, until=until, limit=CHUNK)
        page = await asyncio.to_thread(read)
        found = [_Found(position, stored) for position, stored in page.found]
        return _Stretch(found, page.end or until, sparse=page.end is not None and len(found) < CHUNK)


def _position(token: str) -> Position | None:
    if not token:
        return None
    instant, operation_id = paging.decode(token, int, str)
    return instant, operation_id
