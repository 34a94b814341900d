"""What a worker holds: deliveries that it fetched and that are not settled yet."""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Final

from redis.exceptions import RedisError
from waybill.operations.v1 import operations_pb2 as ops

from chassis import store_calls
from chassis.attempts import Attempt, Ended, FencedOff
from chassis.deliveries import WorkItem
from chassis.errors import Cancelled
from chassis.logging import get_logger
from chassis.settling import Settler
from chassis.store import Store
from chassis.store_calls import Settlement, SharedBegins

log = get_logger(__name__)

#: Deliveries beyond the pool's own slots are bounded by this much measured work.
PREFETCH_SECONDS: Final = 0.1
MAX_PREFETCH: Final = 256
#: A delivery that no slot has taken for so long goes back with the next renewal.
WAIT_SECONDS: Final = 1.0
#: Most deliveries of one fetch: bounds how long it keeps the store to itself.
MAX_FETCH: Final = 100
#: How long a worker that ends waits for word from the store before it leaves without.
FAREWELL: Final = timedelta(seconds=2)
#: Attempts begin with their fetch as long as each slot's share of them is known to take no longer together.
SHARED_BEGIN_BUDGET: Final = timedelta(milliseconds=5)


@dataclass(slots=True)
class Flow:
    """How many deliveries a worker may hold: its slots, and what it finished in the last `PREFETCH_SECONDS`."""

    _finished: list[float] = field(default_factory=list)

    def finished(self, now: float) -> None:
        self._finished.append(now)
        if len(self._finished) > 2 * MAX_PREFETCH:
            del self._finished[:-MAX_PREFETCH]

    def limit(self, slots: int, now: float, fitting: int = MAX_PREFETCH) -> int:
        """`fitting`: how many more are likely to fit into `PREFETCH_SECONDS` of all slots."""
        recent = len(self._finished) - bisect_left(self._finished, now - PREFETCH_SECONDS)
        return slots + min(MAX_PREFETCH, recent, fitting)


@dataclass(slots=True)
class Costs:
    """How long tasks are known to run: a moving average that believes a longer run at once and a shorter one slowly."""

    _seconds: dict[str, float] = field(default_factory=dict)
    _runs: dict[str, int] = field(default_factory=dict)
    #: Of the last 32 runs or so.
    _mean: float = 0.0

    def ran(self, task: str, seconds: float) -> None:
        before = self._seconds.get(task, seconds)
        self._seconds[task] = seconds if seconds > before else before + (seconds - before) / 8
        self._runs[task] = self._runs.get(task, 0) + 1
        self._mean += (seconds - self._mean) / min(32, sum(self._runs.values()))

    def known(self) -> dict[str, timedelta]:
        """Of tasks that ran a few times."""
        few = 3
        return {task: timedelta(seconds=s) for task, s in self._seconds.items() if self._runs[task] >= few}

    def within(self, seconds: float) -> int:
        """How many attempts are likely to run within so many seconds of slots."""
        return int(seconds / self._mean) if self._mean else MAX_PREFETCH

    def fitting(self, budget: timedelta) -> int:
        """How many attempts are likely to fit into the budget; of long ones as many as may be fetched at all."""
        seconds = budget.total_seconds()
        return int(seconds / self._mean) if 0 < self._mean < seconds / 4 else MAX_FETCH


@dataclass(slots=True)
class Held:
    """A delivery from its fetch until it is settled, lost or given back. Times are monotonic, 0 for not yet."""

    item: WorkItem
    #: Handed to the pool: it is not given back any more.
    started_at: float = 0.0
    #: Taken by a slot of the pool: its time runs.
    running_at: float = 0.0
    cancel_asked_at: float = 0.0
    #: The attempt, where it runs in this process.
    attempt: Attempt | None = None
    #: The pool's child that runs it.
    child: int = 0
    fetched_at: float = field(default_factory=time.monotonic)
    #: How it ends is decided; what the attempt may still say is not asked for.
    decided: bool = False
    #: Another has the operation; what the attempt says at its end is refused by the store and recorded.
    fenced: bool = False


class Intake:
    """Fetches for one worker process, and renews what it fetched until it is settled, lost or given back.

    Args:
        slots: attempts that the pool runs at a time; see `resize`.
        forks: attempts run in the pool's children.
    """

    def __init__(
        self,
        store: Store,
        *,
        worker: str,
        queues: Sequence[str],
        tasks: Callable[[], Sequence[str]],
        lease: timedelta,
        slots: int = 1,
        forks: bool = False,
    ) -> None:
        self.store = store
        self.worker = worker
        self.queues = queues
        self.tasks = tasks
        self.lease = lease
        self.slots = slots
        self.forks = forks
        self.flow = Flow()
        self.costs = Costs()
        self.settler = Settler(store, more_to_come=lambda: self._begun_together > 0, settled=self.settled)
        self.draining = False
        #: The process is to end once it has drained.
        self.leaving = False
        #: Names of the ordinary tasks that Celery runs here.
        self.registered: Container[str] = ()
        #: How many attempts the pool can run at once now, where that may be fewer than it is meant to: children start.
        self.able: Callable[[], int] | None = None
        #: Writes a heartbeat now. Raises RedisError.
        self.announce: Callable[[], None] = lambda: None
        #: Called when there is room again after a time without.
        self.on_room: Callable[[], None] = lambda: None
        #: Called when the worker leaves and the store is silent: ends what waits for it in another thread.
        self.on_silence: Callable[[], None] = lambda: None
        #: Whether attempts of a task must not begin before a slot has them: a rate limit may keep them waiting.
        self.begins_alone: Callable[[str], bool] = lambda _task: False
        #: Attempts that are settled and still occupy a slot: they heed no request to stop.
        self.abandoned = 0
        self._held: dict[str, Held] = {}
        #: Of these, what is not yet on its way to be settled.
        self._at_work = 0
        self._begun_together = 0
        self._full = False
        #: Given up, with whether the worker died; until the store knows.
        self._given_up: dict[str, tuple[str, bool]] = {}
        self._lock = threading.RLock()
        self._session = secrets.token_hex(6)
        self._fetches = self._heard = 0

    def resize(self, slots: int) -> None:
        """The pool is meant to run so many attempts at a time; what is fetched follows what it can run now."""
        self.slots = slots if self.able is None else min(slots, self.able())

    def room(self) -> int:
        """How many deliveries a fetch may bring now. It waits until half of what goes beyond the slots is done."""
        if self.draining:
            return 0
        with self._lock:
            limit = self.flow.limit(self.slots, time.monotonic(), self.costs.within(PREFETCH_SECONDS * self.slots))
            room = 0
            if self._at_work < self.slots + (limit - self.slots) // 2:
                # Short ones that come without having begun would each cost a round trip.
                room = min(MAX_FETCH, self.costs.fitting(SHARED_BEGIN_BUDGET * self.slots), limit - len(self._held))
            self._full = room <= 0
            return max(0, room)

    def fetch(self, limit: int) -> tuple[list[WorkItem], timedelta | None]:
        """What came, and the time until more falls due. Raises RedisError when the store is out of reach."""
        self._fetches += 1
        costs = {task: cost for task, cost in self.costs.known().items() if not self.begins_alone(task)}
        begins = SharedBegins(self.worker, secrets.token_hex(8), SHARED_BEGIN_BUDGET * self.slots, costs)
        call = store_calls.fetch(
            limit,
            self.queues,
            self.tasks(),
            session=self._session,
            number=self._fetches,
            heard=self._heard,
            lease=self.lease,
            begins=begins,
        )
        fetched = self.store.run(call)
        self._heard = self._fetches
        items = [WorkItem.of(delivery) for delivery in fetched.deliveries]
        with self._lock:
            self._held.update((item.delivery, Held(item)) for item in items)
            self._at_work += len(items)
            self._begun_together += sum(item.begun for item in items)
        return items, fetched.next_due

    @property
    def held(self) -> int:
        return len(self._held)

    def leave(self) -> None:
        """Take nothing any more; the process is to end, in good time even if the store does not answer."""
        self.draining = self.leaving = True
        threading.Thread(target=self._end_waits, name="leaves", daemon=True).start()

    def _end_waits(self) -> None:
        if self.leaves_in_silence:
            log.warning("worker.leaves_in_silence", worker=self.worker)
            self.store.hang_up()
            self.on_silence()

    @property
    def leaves_in_silence(self) -> bool:
        """The process is to end, and the store does not answer: what it would be told it finds out by itself.

        Leases run out, a heartbeat that stops is shown no more, a bell that nobody heard costs a second.
        """
        return self.leaving and self._store_is_silent

    @cached_property
    def _store_is_silent(self) -> bool:
        """Asked once."""
        return not self.store.answers(FAREWELL)

    def running(self) -> list[str]:
        """Operations whose attempts a slot has taken and that are not over."""
        return [held.item.operation_id for held in self.snapshot() if held.running_at and not held.decided]

    def snapshot(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    def start(self, delivery: str) -> bool:
        """The pool takes it; False when it was given back meanwhile and must not run."""
        with self._lock:
            held = self._held.get(delivery)
            if held is None or held.decided:
                return False
            held.started_at = time.monotonic()
            held.running_at = 0.0 if self.forks else held.started_at
            return True

    def runs_in(self, delivery: str, *, attempt: Attempt | None = None, child: int = 0) -> None:
        """Whom to tell, or to kill, when the attempt is to end."""
        with self._lock:
            held = self._held.get(delivery)
            if held is not None:
                held.attempt, held.child = attempt, child or held.child
                held.running_at = held.running_at or time.monotonic()

    def ended(self, delivery: str, ended: Ended | None) -> None:
        """The pool is done with it; None: there was nothing to run."""
        with self._lock:
            held = self._held.get(delivery)
            if held is None or held.decided:
                return
            if ended is not None:
                self.costs.ran(held.item.task, ended.seconds)
            self._decide(held, ended.settlement if ended is not None else None, ended.seconds if ended else None)

    def settle_for(self, held: Held, settlement: Settlement) -> bool:
        """Settle an attempt in its place; False when it has ended by itself meanwhile."""
        with self._lock:
            if held.decided:
                return False
            self._decide(held, settlement)
            return True

    def settled(self, items: Sequence[WorkItem]) -> None:
        """The store has answered for these."""
        with self._lock:
            for item in items:
                self._held.pop(item.delivery, None)
        self._say_if_there_is_room()

    def lost(self, delivery: str) -> None:
        """The pool's child that ran it died."""
        with self._lock:
            held = self._held.get(delivery)
            if held is None or held.decided:
                return
            self._leave_work(held)
        self._give_up([delivery], lost=True)

    def give_back_all(self) -> None:
        """What has not started returns to its place in the queue; what runs stays held until it ends."""
        self._give_back(lambda held: not held.started_at)

    def give_back_waiting(self) -> None:
        """What was fetched beyond the slots and found them taken for long returns to its place: others may be idle."""
        with self._lock:
            free = self.slots - sum(bool(held.started_at) and not held.decided for held in self._held.values())
        before = time.monotonic() - WAIT_SECONDS
        # What waits beside a free slot is kept back by a rate limit.
        if free <= 0:
            self._give_back(lambda held: not held.started_at and held.fetched_at < before)

    def give_back(self, delivery: str) -> None:
        """The pool had taken it, has run nothing of it, and never will."""
        self._give_back(lambda held: held.item.delivery == delivery)

    def _give_back(self, unrun: Callable[[Held], bool]) -> None:
        with self._lock:
            waiting = [held for held in self._held.values() if unrun(held) and not held.decided]
            for held in waiting:
                if held.item.begun:
                    returned = Settlement(held.item.operation_id, held.item.token, ops.ATTEMPT_OUTCOME_RETURNED)
                    self._decide(held, returned)
                else:
                    self._leave_work(held)
        unbegun = [held.item.delivery for held in waiting if not held.item.begun]
        self._give_up(unbegun, lost=False)

    def renew(self) -> None:
        """Renew every lease; tell attempts that are cancelled or fenced off; give back what waits for a slot."""
        self._release()
        self.give_back_waiting()
        held = [each for each in self.snapshot() if not each.fenced]
        if not held:
            return
        pairs = [(each.item.operation_id, each.item.delivery) for each in held]
        answers = self.store.run(store_calls.renew(pairs, lease=self.lease))
        for each, answer in zip(held, answers, strict=True):
            if answer == store_calls.CANCEL_REQUESTED:
                self._cancel(each)
            elif answer == store_calls.LOST:
                self._fence_off(each)

    def _cancel(self, held: Held) -> None:
        held.cancel_asked_at = held.cancel_asked_at or time.monotonic()
        if held.attempt is not None:
            held.attempt.stop(Cancelled("a client asked for cancellation"))

    def _fence_off(self, held: Held) -> None:
        with self._lock:
            if held.decided or held.fenced:
                return
            held.fenced = True
            if not held.started_at:
                self._decide(held, None)
        if held.attempt is not None:
            held.attempt.stop(FencedOff())

    def _decide(self, held: Held, settlement: Settlement | None, seconds: float | None = None) -> None:
        self._leave_work(held)
        if settlement is None:
            self._held.pop(held.item.delivery, None)
        else:
            self.settler.put(held.item, settlement, seconds)
        self._say_if_there_is_room()

    def _leave_work(self, held: Held) -> None:
        held.decided = True
        self._at_work -= 1
        self._begun_together -= held.item.begun
        self.flow.finished(time.monotonic())

    def _say_if_there_is_room(self) -> None:
        if self._full and self.room() > 0:
            self.on_room()

    def _give_up(self, deliveries: list[str], *, lost: bool) -> None:
        with self._lock:
            self._given_up.update((d, (self._held[d].item.operation_id, lost)) for d in deliveries if d in self._held)
        try:
            self._release()
        except RedisError as error:
            log.warning("release.waits", count=len(deliveries), error=str(error))

    def _release(self) -> None:
        """Tell the store what was given up. What it could not be told is told by the next renewal."""
        for lost in (True, False):
            with self._lock:
                pairs = [(operation, d) for d, (operation, kind) in self._given_up.items() if kind is lost]
            if not pairs:
                continue
            self.store.run(store_calls.release(pairs, lost=lost))
            with self._lock:
                for _, delivery in pairs:
                    self._given_up.pop(delivery, None)
                    self._held.pop(delivery, None)


#: The intake of each service whose worker runs in this process.
intakes: dict[str, Intake] = {}
