"""The thread that keeps what a worker holds its own, ends attempts that overrun, and says that the worker lives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import psutil
from redis.exceptions import RedisError
from waybill.operations.v1 import operations_pb2 as ops

from chassis import housekeeping, store_calls, telemetry
from chassis.attempts import failure
from chassis.descriptions import operation_name
from chassis.errors import DeadlineExceeded
from chassis.intake import Held, Intake
from chassis.logging import bound, get_logger
from chassis.store_calls import Settlement

if TYPE_CHECKING:
    from chassis.worker import OperationTask

log = get_logger(__name__)

HEARTBEAT_SECONDS: Final = 5.0
TICK_SECONDS: Final = 0.5
#: How long an attempt that was told to end may take over it, before it is ended by force.
OVERRUN_SECONDS: Final = 2.0
FLUSH_SECONDS: Final = 5.0


class Keeper(threading.Thread):
    """Renews leases, keeps house, enforces limits. Runs until the last attempt has ended."""

    def __init__(
        self, intake: Intake, describe: Callable[[], dict[str, Any]], *, task_named: Callable[[str], OperationTask]
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._intake = intake
        self._describe = describe
        self._task_named = task_named
        self._size_at_start = intake.slots
        self._done = threading.Event()
        self._beating = threading.Lock()
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
            self.enforce_limits()
            if self._intake.abandoned:
                self._recycle_when_idle()

    def stop(self) -> None:
        self._done.set()
        if self._intake.leaves_in_silence:
            return
        try:
            # After a heartbeat that is under way, which would list the worker again.
            with self._beating:
                self._intake.store.client.hdel(self._intake.store.keys.named("workers"), self._intake.worker)
        except RedisError:
            log.warning("worker.heartbeat_left", worker=self._intake.worker)

    def beat(self) -> None:
        """Write what the worker is and does; once it has stopped, nothing. Raises RedisError."""
        intake = self._intake
        with self._beating:
            if self._done.is_set():
                return
            facts = {**self._describe(), "heartbeat_us": time.time_ns() // 1000, "operations": intake.running()}
            facts |= {"draining": intake.draining, "abandoned": intake.abandoned}
            intake.store.run(store_calls.write("HSET", "workers", intake.worker, json.dumps(facts)))

    def enforce_limits(self) -> None:
        """Settle in the place of attempts that were told to end and go on, and take their process or slot away."""
        now = time.monotonic()
        for held in self._intake.snapshot():
            task = self._task_named(held.item.task)
            why = overrun(held, task.timeout.total_seconds(), now)
            if why and self._intake.settle_for(held, settlement_of(task, held, why)):
                self._end_by_force(held, why)

    def _end_by_force(self, held: Held, why: str) -> None:
        item = held.item
        name = operation_name(self._intake.store.keys.service, item.operation_id)
        with bound(operation=name, task=item.task, trace_id=item.parsed().trace.trace_id.hex()):
            log.error("attempt.overran", attempt=item.number, why=why, child=held.child)
        if held.child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(held.child, signal.SIGKILL)
        else:
            self._intake.abandoned += 1

    def _recycle_when_idle(self) -> None:
        """Start the worker anew, in this process's place, once only abandoned attempts are left in it.

        Python cannot end a thread. Every other attempt ends within its own timeout, so this comes. A worker that was
        told to end does so here, since Celery would wait for the abandoned threads.
        """
        intake = self._intake
        intake.draining = True
        intake.give_back_all()
        if intake.held or not intake.settler.flush(FLUSH_SECONDS):
            return
        telemetry.shutdown()
        if intake.leaving:
            self.stop()
            log.info("worker.drained", worker=intake.worker, abandoned=intake.abandoned)
            os._exit(0)
        log.warning("worker.recycled", worker=intake.worker, abandoned=intake.abandoned)
        again, size = sys.orig_argv[1:], int(self._describe()["concurrency"])
        if size != self._size_at_start:
            again = arguments_again(again, size)
        os.execv(sys.executable, [sys.executable, *again])  # noqa: S606 (this program again)

    def _keep_house(self) -> None:
        housekeeping.report(self._intake.store.run(store_calls.housekeeping(lease=self._intake.lease)))

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


def overrun(held: Held, timeout_seconds: float, now: float) -> str:
    """Why the attempt is to be ended by force: "timeout", "cancelled", or empty."""
    if held.decided or not held.running_at:
        return ""
    if held.cancel_asked_at and now > held.cancel_asked_at + OVERRUN_SECONDS:
        return "cancelled"
    return "timeout" if now > held.running_at + timeout_seconds + OVERRUN_SECONDS else ""


def settlement_of(task: OperationTask, held: Held, why: str) -> Settlement:
    """How an attempt that overran is settled by who ends it."""
    if why == "cancelled":
        return Settlement(held.item.operation_id, held.item.token, ops.ATTEMPT_OUTCOME_CANCELLED)
    error = DeadlineExceeded("the attempt outlived its timeout and was ended", reason="ATTEMPT_TIMEOUT")
    return failure(task, held.item, error)


def arguments_again(arguments: Sequence[str], concurrency: int) -> list[str]:
    """A worker's command line for another start with the concurrency that it was last set to."""
    kept = [argument for argument in arguments if not argument.startswith(_CONCURRENCY)]
    return [*kept, f"{_CONCURRENCY}{concurrency}"]


_CONCURRENCY: Final = "--concurrency="


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
