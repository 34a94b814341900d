"""Attempts that outlive their timeout or a cancellation are ended in their place."""

import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.deliveries import WorkItem
from chassis.intake import Held, Intake
from chassis.keeper import OVERRUN_SECONDS, Keeper, overrun
from chassis.retries import RetryPolicy
from chassis.testing.memory_store import MemoryStore
from google.protobuf.struct_pb2 import Struct
from waybill.operations.v1 import operations_pb2 as ops

LEASE = timedelta(seconds=15)
TIMEOUT = 60.0
TASK = SimpleNamespace(
    name="test.do",
    policy=RetryPolicy(max_attempts=2),
    queue_name="test.q",
    default_priority=2,
    retention=None,
    timeout=timedelta(seconds=TIMEOUT),
    service_app=SimpleNamespace(service="test"),
)
ITEM = WorkItem("id", "d", b"", "test.do", "q", 1, 3, "token", b"12345678", begun=True)


@pytest.mark.parametrize(
    ("started", "cancelled", "decided", "now", "why"),
    [
        (0.0, 0.0, False, 1e9, ""),
        (100.0, 0.0, False, 100.0 + TIMEOUT, ""),
        (100.0, 0.0, False, 100.0 + TIMEOUT + OVERRUN_SECONDS, ""),
        (100.0, 0.0, False, 100.1 + TIMEOUT + OVERRUN_SECONDS, "timeout"),
        (100.0, 110.0, False, 110.0 + OVERRUN_SECONDS, ""),
        (100.0, 110.0, False, 110.1 + OVERRUN_SECONDS, "cancelled"),
        (0.0, 110.0, False, 1e9, ""),
        (100.0, 110.0, True, 1e9, ""),
    ],
)
def test_when_an_attempt_is_ended_by_force(started, cancelled, decided, now, why):
    """It has had its timeout, or been told of a cancellation, and some time to end by itself."""
    held = Held(ITEM, running_at=started, cancel_asked_at=cancelled, decided=decided)

    assert overrun(held, TIMEOUT, now) == why


class Settled(MemoryStore):
    """A memory store that a keeper can be given."""

    keys = store_calls.Keys("test")


class Desk:
    """One attempt that runs, and its worker's keeper."""

    def __init__(self, *, forks):
        self.store = Settled()
        self.intake = Intake(
            self.store, worker="w", queues=["test.q"], tasks=lambda: ["test.do"], lease=LEASE, forks=forks
        )
        self.keeper = Keeper(self.intake, dict, task_named=lambda name: TASK)
        item = acceptance(Submission(TASK, Struct()), Provenance("", "S/M"))
        self.store.run(store_calls.accept([item]))
        (self.item,) = self.intake.fetch(1)[0]
        assert self.intake.start(self.item.delivery)
        begin = store_calls.begin(
            self.item.operation_id,
            self.item.delivery,
            worker="w",
            token=self.item.token,
            span=self.item.span_id,
            lease=LEASE,
        )
        self.store.run(begin)
        (self.held,) = self.intake.snapshot()

    def enforce(self):
        self.keeper.enforce_limits()
        self.intake.settler.start()
        assert self.intake.settler.flush(20)
        return self.store.operations[self.item.operation_id]


def test_an_attempt_of_threads_that_outlives_its_timeout_is_settled_and_its_slot_abandoned():
    """The operation is told why, and another attempt follows; what the thread says later is not heard."""
    desk = Desk(forks=False)
    desk.held.running_at -= TIMEOUT + OVERRUN_SECONDS + 1

    kept = desk.enforce()

    assert (kept.state, kept.error.reason) == (ops.OPERATION_STATE_RETRYING, "ATTEMPT_TIMEOUT")
    assert desk.intake.abandoned == 1
    desk.intake.ended(desk.item.delivery, None)
    assert kept.state == ops.OPERATION_STATE_RETRYING


def test_a_cancelled_attempt_that_goes_on_is_settled_as_cancelled():
    """No task keeps an operation from being cancelled."""
    desk = Desk(forks=False)
    desk.store.run(store_calls.cancel([desk.item.operation_id]))
    desk.intake.renew()
    desk.held.cancel_asked_at -= OVERRUN_SECONDS + 1

    assert desk.enforce().state == ops.OPERATION_STATE_CANCELLED


def test_an_attempt_in_a_child_is_ended_with_its_process():
    """The child is killed and the parent settles; no slot is lost, since the pool starts another child."""
    desk = Desk(forks=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        desk.intake.runs_in(desk.item.delivery, child=child.pid)
        desk.held.running_at -= TIMEOUT + OVERRUN_SECONDS + 1

        kept = desk.enforce()

        assert child.wait(20) == -9
    assert kept.state == ops.OPERATION_STATE_RETRYING
    assert desk.intake.abandoned == 0


def test_an_attempt_within_its_limits_is_left_alone():
    """Nothing is settled in its place."""
    assert Desk(forks=False).enforce().state == ops.OPERATION_STATE_RUNNING
