"""Acceptances that arrive together share a round trip.

While one call to the store is under way, further acceptances gather; the next call takes them all. So an idle gateway
adds no wait, and a busy one waits once for many (group commit). A call costs a gateway about as much as ten acceptances
and the store a flush to disk, so a busy gateway also waits `GATHER_SECONDS` for more before each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from chassis.store_calls import Acceptance, Verdict

Commit: TypeAlias = Callable[[list[Acceptance]], Awaitable[list[Verdict]]]

#: Bounds how long one script call keeps the store to itself: about 25 µs an acceptance.
BATCH_LIMIT: Final = 200
#: What a busy gateway adds to the latency of an acceptance, at most.
GATHER_SECONDS: Final = 0.005
#: A gateway is busy when so many came together.
BUSY: Final = 4


class AcceptBatcher:
    """Accepts for one gateway. Each acceptance is atomic by itself; a failed call fails all that it carried."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._waiting: list[tuple[Acceptance, asyncio.Future[Verdict]]] = []
        self._sender: asyncio.Task[None] | None = None
        self._busy = False

    async def accept(self, item: Acceptance) -> Verdict:
        """Raises RedisError when the store is out of reach: whether it was accepted is then unknown."""
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        try:
            while self._waiting:
                if self._busy:
                    await asyncio.sleep(GATHER_SECONDS)
                batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
                self._busy = len(batch) >= BUSY
                await self._send_batch(batch)
        finally:
            self._sender = None

    async def _send_batch(self, batch: list[tuple[Acceptance, asyncio.Future[Verdict]]]) -> None:
        try:
            verdicts = await self._commit([item for item, _ in batch])
        except BaseException as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, answer), verdict in zip(batch, verdicts, strict=True):
            if not answer.done():
                answer.set_result(verdict)
