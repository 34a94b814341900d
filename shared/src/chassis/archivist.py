"""Brings ended operations into the archive, and forgets what is past its time. Any gateway may; one at a time does.

An operation leaves the store after the archive has committed it, and only by age: it is read, committed, then marked,
and what is marked goes when its tail is over. Whoever dies in between leaves work that is done once more: a second
commit of the same operation changes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from chassis import archive_calls
from chassis.history import Archive
from chassis.logging import get_logger
from chassis.store import AsyncStore

log = get_logger(__name__)

BATCH: Final = 200
PAUSE_SECONDS: Final = 1.0
#: While the database is away.
OUTAGE_PAUSE_SECONDS: Final = 5.0


class Archivist:
    """Without an archive it only forgets: everything is then kept in the store for all of its retention."""

    def __init__(self, store: AsyncStore, archive: Archive | None, *, tail: timedelta) -> None:
        self._store = store
        self._archive = archive
        self._tail = tail
        self._identity = secrets.token_hex(8)

    async def run(self) -> None:
        """Until cancelled. Raises RedisError in an outage of the store; waits through one of the database."""
        while True:
            try:
                busy = await self.work()
            except SQLAlchemyError as error:
                log.warning("archive.waiting", error=str(error))
                await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
                continue
            if not busy:
                await asyncio.sleep(PAUSE_SECONDS)

    async def work(self) -> bool:
        """A batch of each; whether there is more."""
        retired = await self._store.run(archive_calls.retire(BATCH))
        if self._archive is None:
            return retired == BATCH
        kept = await self._keep(self._archive)
        if kept is None:
            return retired == BATCH
        await self._note_replays(self._archive)
        purged = await asyncio.to_thread(self._archive.purge, BATCH)
        return BATCH in {retired, kept, purged}

    async def _keep(self, archive: Archive) -> int | None:
        """How many operations were taken into the archive; None when it is another's turn."""
        ended = await self._store.run(archive_calls.unarchived(self._identity, tail=self._tail, limit=BATCH))
        if ended:
            await asyncio.to_thread(archive.keep, ended)
            await self._store.run(archive_calls.archived(ended, tail=self._tail))
        return None if ended is None else len(ended)

    async def _note_replays(self, archive: Archive) -> None:
        """What was replayed after the store had forgotten it."""
        replays: dict[bytes, bytes] = await self._store.client.hgetall(self._store.keys.named("replays"))
        if replays:
            noted = {original.decode(): replay.decode() for original, replay in replays.items()}
            await asyncio.to_thread(archive.note_replays, noted)
            await self._store.run(archive_calls.replays_noted(noted))
