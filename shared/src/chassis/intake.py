"""What a worker holds: deliveries that it fetched and has not finished, and the thread that keeps them its own."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import psutil
from redis.exceptions import RedisError

from chassis import store_calls
from chassis.attempts import Attempt, FencedOff
from chassis.errors import Cancelled
from chassis.logging import get_logger
from chassis.store import Store
from chassis.store_calls import Fetched

log = get_logger(__name__)

#: Deliveries beyond the pool's own slots are bounded by this much measured work.
PREFETCH_SECONDS: Final = 0.1
MAX_PREFETCH: Final = 256
HEARTBEAT_SECONDS: Final = 5.0
TICK_SECONDS: Final = 0.5


@dataclass(slots=True)
class Flow:
    """How many deliveries a worker may hold: its slots, and what it settled in the last `PREFETCH_SECONDS`."""

    _finished: list[float] = field(default_factory=list)

    def finished(self, now: float) -> None:
        self._finished.append(now)
        if len(self._finished) > MAX_PREFETCH:
            del self._finished[: -MAX_PREFETCH // 2]

    def limit(self, slots: int, now: float) -> int:
        recent = sum(1 for moment in self._finished if now - moment <= PREFETCH_SECONDS)
        return slots + min(MAX_PREFETCH, recent)


class Intake:
    """Fetches for one worker process, and renews what it fetched until it is finished, lost or given back."""

    def __init__(
        self, store: Store, *, worker: str, queues: Sequence[str], tasks: Callable[[], Sequence[str]], lease: timedelta
    ) -> None:
        self.store = store
        self.worker = worker
        self.queues = queues
        self.tasks = tasks
        self.lease = lease
        self.flow = Flow()
        self.draining = False
        #: Delivery to operation.
        self._held: dict[str, str] = {}
        #: Delivery to operation, and whether its worker died; until the store knows.
        self._given_up: dict[str, tuple[str, bool]] = {}
        self._running: dict[str, Attempt] = {}
        self._lock = threading.Lock()
        self._session = secrets.token_hex(6)
        self._fetches = 0

    def fetch(self, limit: int) -> Fetched:
        """Raises RedisError when the store is out of reach."""
        self._fetches += 1
        call = store_calls.fetch(
            limit, self.queues, self.tasks(), base=f"{self._session}.{self._fetches}", lease=self.lease
        )
        fetched = self.store.run(call)
        with self._lock:
            self._held.update((delivery.delivery, delivery.operation_id) for delivery in fetched.deliveries)
        return fetched

    def holds(self, delivery: str) -> bool:
        return delivery in self._held

    @property
    def held(self) -> int:
        return len(self._held)

    def finished(self, delivery: str) -> None:
        """The attempt has ended and settled, or there was nothing to run: only the place in the prefetch returns."""
        with self._lock:
            self._held.pop(delivery, None)
        self.flow.finished(time.monotonic())

    def lost(self, delivery: str) -> None:
        """The pool's child that ran it died."""
        self._give_up([delivery], lost=True)

    def give_back_all(self) -> None:
        """What has not begun returns to its place in the queue; what runs stays held until it ends."""
        with self._lock:
            waiting = [delivery for delivery, operation in self._held.items() if operation not in self._running]
        self._give_up(waiting, lost=False)

    def started(self, operation_id: str, attempt: Attempt) -> None:
        self._running[operation_id] = attempt

    def ended(self, operation_id: str) -> None:
        self._running.pop(operation_id, None)

    def renew(self) -> None:
        """Renew every lease; tell attempts of this process that are cancelled or fenced off."""
        self._release()
        with self._lock:
            held = [(operation, delivery) for delivery, operation in self._held.items()]
        if not held:
            return
        answers = self.store.run(store_calls.renew(held, lease=self.lease))
        for (operation, delivery), answer in zip(held, answers, strict=True):
            self._heed(operation, delivery, answer)

    def _heed(self, operation: str, delivery: str, answer: int) -> None:
        attempt = self._running.get(operation)
        if answer == store_calls.CANCEL_REQUESTED and attempt is not None:
            attempt.stop(Cancelled("a client asked for cancellation"))
        if answer != store_calls.LOST:
            return
        with self._lock:
            still_held = self._held.pop(delivery, None) is not None
        if attempt is not None and still_held:
            attempt.stop(FencedOff())

    def operations(self) -> list[str]:
        with self._lock:
            return list(self._held.values())

    def _give_up(self, deliveries: list[str], *, lost: bool) -> None:
        with self._lock:
            self._given_up.update((d, (self._held[d], lost)) for d in deliveries if d in self._held)
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
                    if lost:
                        self._held.pop(delivery, None)


class Keeper(threading.Thread):
    """Renews leases, keeps house, and says that the worker lives. Runs until the last attempt has ended."""

    def __init__(
        self, intake: Intake, describe: Callable[[], dict[str, Any]], *, relay: Callable[[], int] | None = None
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._intake = intake
        self._describe = describe
        self._relay = relay
        self._done = threading.Event()
        self._next: dict[str, float] = {}

    def run(self) -> None:
        renew_every = self._intake.lease.total_seconds() / 3
        house_every = store_calls.housekeeping_interval(self._intake.lease).total_seconds()
        while not self._done.wait(min(TICK_SECONDS, house_every)):
            if self._intake.draining:
                self._intake.give_back_all()
            self._every("renew", renew_every, self._intake.renew)
            self._every("housekeeping", house_every, self._keep_house)
            self._every("heartbeat", HEARTBEAT_SECONDS, self.beat)

    def stop(self) -> None:
        self._done.set()
        try:
            self._intake.store.client.hdel(self._intake.store.keys.named("workers"), self._intake.worker)
        except RedisError:
            log.warning("worker.heartbeat_left", worker=self._intake.worker)

    def beat(self) -> None:
        facts = {**self._describe(), "heartbeat_us": time.time_ns() // 1000, "operations": self._intake.operations()}
        facts["draining"] = self._intake.draining
        self._intake.store.run(store_calls.write("HSET", "workers", self._intake.worker, json.dumps(facts)))

    def _keep_house(self) -> None:
        done = self._intake.store.run(store_calls.housekeeping(lease=self._intake.lease))
        if done is not None and (done.rescued or done.reconciled or done.leases_granted):
            log.warning(
                "housekeeping.rescued",
                rescued=done.rescued,
                reconciled=done.reconciled,
                leases_granted=done.leases_granted,
            )

    def _every(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        now = time.monotonic()
        if now < self._next.get(name, 0.0):
            return
        self._next[name] = now + seconds
        try:
            action()
        except RedisError as error:
            self._next[name] = now + min(seconds, 1.0)
            log.warning("store.unreachable", during=name, error=str(error))


def host_facts() -> dict[str, Any]:
    """What a heartbeat says of the machine and the process."""
    process = psutil.Process()
    memory = process.memory_info().rss + sum(child.memory_info().rss for child in _living(process))
    started_us = int(process.create_time() * 1_000_000)
    return {"host": socket.gethostname(), "pid": os.getpid(), "memory_bytes": memory, "start_us": started_us}


def _living(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
