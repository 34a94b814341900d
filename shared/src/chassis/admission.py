"""Refuses new work before the store is full: what is in it already needs the rest to come to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from redis.exceptions import RedisError

from chassis.errors import ResourceExhausted
from chassis.logging import get_logger
from chassis.store import AsyncStore

log = get_logger(__name__)

#: Between two looks.
MAX_PAUSE_SECONDS: Final = 0.25
MIN_PAUSE_SECONDS: Final = 0.02
STORE_FULL_RETRY: Final = timedelta(seconds=5)


class Admission:
    """Looks at the store's memory, the oftener the faster it fills; acceptances ask no more than what it saw last."""

    def __init__(self, store: AsyncStore, *, high_water: float) -> None:
        self._store = store
        self._high_water = high_water
        self._used = 0.0
        self._looked_at = time.monotonic()
        self._pace = 0.0

    async def watch(self) -> None:
        """Until cancelled; in an outage what was seen last holds."""
        while True:
            try:
                await self.look()
            except RedisError as error:
                log.warning("admission.waiting", error=str(error))
            await asyncio.sleep(pause_seconds(self._high_water - self._used, self._pace))

    async def look(self) -> None:
        """Look once, and say when the high water mark is passed, up or down."""
        before, self._used = self._used, share_used(await self._store.client.info("memory"))
        passed, self._looked_at = time.monotonic() - self._looked_at, time.monotonic()
        self._pace = (self._used - before) / max(passed, MIN_PAUSE_SECONDS)
        if (before >= self._high_water) != self.refuses:
            say = log.warning if self.refuses else log.info
            event = "admission.refusing" if self.refuses else "admission.admitting"
            say(event, used=round(self._used, 3), high_water=self._high_water)

    @property
    def refuses(self) -> bool:
        return self._used >= self._high_water

    def check(self) -> None:
        """Raises ResourceExhausted, reason STORE_FULL."""
        if self.refuses:
            raise store_full()


def pause_seconds(room: float, pace: float) -> float:
    """Half of what it takes to use up the room at this pace: a store that fills fast is past its mark by little.

    Args:
        room: share of the store that is left below the mark.
        pace: share that is filled in a second.
    """
    if room <= 0 or pace <= 0:
        return MAX_PAUSE_SECONDS
    return min(MAX_PAUSE_SECONDS, max(MIN_PAUSE_SECONDS, room / pace / 2))


def share_used(memory: Mapping[str, Any]) -> float:
    """Of `maxmemory`, from INFO, counted as the server counts when it refuses writes; 0 without a limit."""
    limit = int(memory.get("maxmemory", 0))
    counted = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
    return counted / limit if limit else 0.0


def store_full() -> ResourceExhausted:
    """What a client is told, by whoever finds that the store is full."""
    return ResourceExhausted("the operation store is full", reason="STORE_FULL", retry_after=STORE_FULL_RETRY)
