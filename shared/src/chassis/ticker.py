"""A ticker: one accepted operation per tick, however many schedulers run.

Ticks lie at whole multiples of the interval since 1970; every scheduler asks for the same
request_id at the same tick. A tick that nobody could submit before the next one is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from google.rpc import status_pb2
from redis.exceptions import RedisError

from chassis import logging, telemetry
from chassis.errors import RetryLater
from chassis.operations import Operations, Submission
from chassis.settings import ServiceSettings
from chassis.statuses import from_status
from chassis.store import AsyncStore
from chassis.termination import pause, termination

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

RETRY_SECONDS: Final = 0.5
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.get_logger()


class Ticker:
    """Submits `submission(instant)` at each tick."""

    def __init__(
        self,
        app: ServiceApp,
        settings: ServiceSettings,
        *,
        every: timedelta,
        submission: Callable[[datetime], Submission],
    ) -> None:
        if every < timedelta(seconds=1):
            raise ValueError("a tick takes at least a second")
        self.every = every
        self._submission = submission
        self._store = AsyncStore.connect(app.service, settings.waybill.store_url)
        self._operations = Operations(self._store, app, replicas=settings.waybill.awaited_replicas)

    def run(self) -> int:
        """Tick until SIGTERM or SIGINT."""
        return run_all([self])

    async def tick(self, ended: asyncio.Event) -> None:
        """Submit the present tick, then each following one, until `ended`."""
        instant = tick_before(datetime.now(UTC), self.every)
        while not ended.is_set():
            await self._submit(instant, ended)
            wait = instant + self.every - datetime.now(UTC)
            await pause(ended, max(0.0, wait.total_seconds()))
            instant = max(instant + self.every, tick_before(datetime.now(UTC), self.every))
        await self._store.close()

    async def _submit(self, instant: datetime, ended: asyncio.Event) -> None:
        """Try until it is accepted or refused for good, or the next tick has come."""
        submission = self._submission(instant)
        submission = replace(submission, request_id=f"tick/{instant.isoformat()}")
        while not ended.is_set():
            try:
                (answer,) = await self._operations.accept_many([submission], method=f"ticker/{submission.task.name}")
                return _note(instant, answer)
            except (RedisError, RetryLater) as error:
                log.warning("ticker.waits", instant=instant.isoformat(), error=str(error))
            if datetime.now(UTC) >= instant + self.every:
                return None
            await pause(ended, RETRY_SECONDS)
        return None


def run_all(tickers: Sequence[Ticker]) -> int:
    """Run several tickers in one process until SIGTERM or SIGINT."""
    try:
        return asyncio.run(_run(tickers))
    finally:
        telemetry.shutdown()


def tick_before(moment: datetime, every: timedelta) -> datetime:
    """The last tick that is not after the moment."""
    return EPOCH + (moment - EPOCH) // every * every


async def _run(tickers: Sequence[Ticker]) -> int:
    ended = termination()
    log.info("scheduler.started", tickers=len(tickers))
    async with asyncio.TaskGroup() as group:
        for ticker in tickers:
            group.create_task(ticker.tick(ended))
    log.info("scheduler.drained")
    return 0


def _note(instant: datetime, answer: object) -> None:
    if not isinstance(answer, status_pb2.Status):
        log.debug("ticker.accepted", instant=instant.isoformat())
        return
    error = from_status(answer)
    if isinstance(error, RetryLater):
        raise error
    log.error("ticker.refused", instant=instant.isoformat(), reason=error.reason, error=error.message)
