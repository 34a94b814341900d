"""Settles attempts. Those that end together share a round trip (group commit).

An attempt that ends alone is settled at once. While short attempts that began together are still at work, what has
ended waits for them, at most `GATHER_SECONDS`.
"""

from __future__ import annotations

import functools
import logging as stdlib_logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError
from waybill.operations.v1 import operations_pb2 as ops

from chassis import store_calls
from chassis.deliveries import WorkItem
from chassis.descriptions import operation_name, state_name
from chassis.instruments import ATTEMPT_DURATION, ATTEMPTS, QUEUE_WAIT
from chassis.logging import bound, get_logger
from chassis.store import Store
from chassis.store_calls import Settlement

log = get_logger(__name__)

#: Bounds how long one script call keeps the store to itself: about 30 µs a settlement.
BATCH_LIMIT: Final = 100
GATHER_SECONDS: Final = 0.005
#: How long a settle is tried while the store is out of reach. Longer than a lease: the token decides, not the clock.
PATIENCE_SECONDS: Final = 300.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Pending:
    item: WorkItem
    settlement: Settlement
    since: float
    #: How long its task ran; None: it did not run to its end here.
    seconds: float | None


class Settler(threading.Thread):
    """The one thread of a worker that settles.

    Args:
        more_to_come: whether attempts that began together are still at work.
        settled: called with each item once the store has answered, or patience has ended.
    """

    def __init__(
        self, store: Store, *, more_to_come: Callable[[], bool], settled: Callable[[list[WorkItem]], None]
    ) -> None:
        super().__init__(name="settler", daemon=True)
        self._store = store
        self._more_to_come = more_to_come
        self._settled = settled
        self._changed = threading.Condition()
        self._pending: list[_Pending] = []
        self._sending = False
        self._ending = False

    def put(self, item: WorkItem, settlement: Settlement, seconds: float | None = None) -> None:
        """Settle this, whose task ran so long, soon; returns at once."""
        with self._changed:
            self._pending.append(_Pending(item, settlement, time.monotonic(), seconds))
            waiting = len(self._pending)
            if waiting == 1 or waiting >= BATCH_LIMIT or not self._more_to_come():
                self._changed.notify_all()

    def run(self) -> None:
        while batch := self._next_batch():
            try:
                self._send(batch)
            except Exception:  # whatever is wrong with this batch, its leases run out; the others have to be settled
                log.exception("settle.broken", attempts=len(batch))
            finally:
                with self._changed:
                    self._sending = False
                    self._changed.notify_all()
                self._settled([pending.item for pending in batch])

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is left to settle; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._sending, timeout)

    def stop(self) -> None:
        """End once nothing is left to settle."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def _next_batch(self) -> list[_Pending]:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._ending)
            if self._pending:
                left = self._pending[0].since + GATHER_SECONDS - time.monotonic()
                self._changed.wait_for(self._gathered, max(0.0, left))
            batch, self._pending = self._pending[:BATCH_LIMIT], self._pending[BATCH_LIMIT:]
            self._sending = bool(batch)
            return batch

    def _gathered(self) -> bool:
        return len(self._pending) >= BATCH_LIMIT or self._ending or not self._more_to_come()

    def _send(self, batch: list[_Pending]) -> None:
        """Until the store answers, or the patience with an outage ends and the leases have long run out."""
        patience = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                states = self._store.run(store_calls.settle([pending.settlement for pending in batch]))
            except RedisError as error:
                if time.monotonic() > patience:
                    log.error("settle.given_up", attempts=len(batch), error=str(error))  # noqa: TRY400
                    return
                threading.Event().wait(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                continue
            for pending, state in zip(batch, states, strict=True):
                count(pending, state)
                self._say(pending.item, state)
            return

    def _say(self, item: WorkItem, state: int | None) -> None:
        if not stdlib_logging.getLogger(__name__).isEnabledFor(
            stdlib_logging.WARNING if state is None else stdlib_logging.INFO
        ):
            return
        name = operation_name(self._store.keys.service, item.operation_id)
        with bound(operation=name, task=item.task, trace_id=item.parsed().trace.trace_id.hex()):
            if state is None:
                log.warning("attempt.fenced", attempt=item.number)
            else:
                log.info("attempt.settled", attempt=item.number, state=state_name(state))


def count(pending: _Pending, state: int | None) -> None:
    """For the metrics of this worker."""
    item = pending.item
    ATTEMPTS.add(item.task, item.queue, outcome_name(pending.settlement.outcome) if state is not None else "fenced")
    QUEUE_WAIT.observe(item.waited_seconds, item.task, item.queue)
    if pending.seconds is not None:
        ATTEMPT_DURATION.observe(pending.seconds, item.task)


@functools.cache
def outcome_name(outcome: int) -> str:
    """`succeeded` and so on."""
    named = ops.AttemptOutcome.Name(outcome)  # type: ignore[arg-type]
    return named.removeprefix("ATTEMPT_OUTCOME_").lower()
