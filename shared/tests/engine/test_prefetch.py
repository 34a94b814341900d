"""How much a worker takes in: by what it finished lately, and by what tasks are known to cost."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from chassis import intake as intake_module
from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.attempts import Ended
from chassis.intake import MAX_PREFETCH, PREFETCH_SECONDS, Costs, Flow, Intake
from chassis.retries import RetryPolicy
from chassis.store_calls import Settlement
from chassis.testing.memory_store import MemoryStore
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from waybill.operations.v1 import operations_pb2 as ops

LEASE = timedelta(seconds=15)
TASK = SimpleNamespace(name="test.do", policy=RetryPolicy(), queue_name="test.q", default_priority=2, retention=None)


@pytest.fixture
def store():
    return MemoryStore()


def a_worker(store, slots=1):
    return Intake(store, worker="w", queues=["test.q"], tasks=lambda: ["test.do"], lease=LEASE, slots=slots)


def accept(store, count=1):
    items = [acceptance(Submission(TASK, Struct()), Provenance("", "S/M")) for _ in range(count)]
    store.run(store_calls.accept(items))


def held_by(intake):
    return sorted(held.item.operation_id for held in intake.snapshot())


@given(st.lists(st.floats(0, 10), max_size=600), st.integers(1, 64))
def test_prefetch_is_bounded_by_measured_work(moments, slots):
    """The pool's slots, and at most what was finished within the last tenth of a second."""
    flow = Flow()
    for moment in sorted(moments):
        flow.finished(moment)
    now = max(moments, default=0)

    recent = sum(now - moment <= PREFETCH_SECONDS for moment in moments)
    assert slots <= flow.limit(slots, now) <= slots + min(recent, MAX_PREFETCH)
    assert flow.limit(slots, now + 1) == slots


@given(st.lists(st.floats(0.0001, 10), min_size=1, max_size=100), st.floats(0.01, 10))
def test_no_more_is_taken_in_than_fits_into_the_time(runs, seconds):
    """By the mean of what ran lately; of long attempts nothing beyond the slots."""
    costs = Costs()
    assert costs.within(seconds) == MAX_PREFETCH
    for run in runs:
        costs.ran("t", run)

    assert seconds / max(runs) - 1 <= costs.within(seconds) <= seconds / min(runs) + 1
    assert Flow([0.0] * 9).limit(4, 0.0, costs.within(seconds)) <= 4 + costs.within(seconds)


@given(st.lists(st.floats(0.0001, 100), min_size=4))
def test_a_cost_is_never_below_what_the_last_run_took_by_much(runs):
    """A longer run counts at once; shorter ones bring it down an eighth of the way each."""
    costs, highest = Costs(), 0.0
    for seconds in runs:
        costs.ran("t", seconds)
        highest = max(seconds, highest + (seconds - highest) / 8)

    known = costs.known()["t"].total_seconds()
    assert known >= runs[-1] - 1e-6
    assert known <= max(runs) + 1e-6


def test_long_attempts_that_end_together_bring_no_more_than_their_slots(store):
    """What came beyond them would wait for long, perhaps while another worker is idle."""
    intake = a_worker(store, slots=2)
    accept(store, 6)
    for item in intake.fetch(2)[0]:
        intake.start(item.delivery)
        settlement = Settlement(item.operation_id, item.token, ops.ATTEMPT_OUTCOME_SUCCEEDED)
        intake.ended(item.delivery, Ended(settlement, 9.0))
        intake.settled([item])

    assert intake.room() == 2


def test_what_finds_the_slots_taken_for_long_goes_back(store, monkeypatch):
    """Another worker takes it at once; what runs stays, and so does what has just come."""
    intake = a_worker(store)
    accept(store, 3)
    running, waiting = intake.fetch(2)[0]
    intake.start(running.delivery)
    monkeypatch.setattr(intake_module, "WAIT_SECONDS", 3600)
    intake.renew()
    assert held_by(intake) == [running.operation_id, waiting.operation_id]

    monkeypatch.setattr(intake_module, "WAIT_SECONDS", -1)
    intake.renew()

    assert held_by(intake) == [running.operation_id]
    assert not intake.start(waiting.delivery)
    assert waiting.operation_id in [item.operation_id for item in a_worker(store).fetch(2)[0]]


def test_what_waits_beside_a_free_slot_stays(store, monkeypatch):
    """A rate limit keeps it back."""
    intake = a_worker(store)
    accept(store)
    (waiting,) = intake.fetch(1)[0]
    monkeypatch.setattr(intake_module, "WAIT_SECONDS", -1)
    intake.renew()

    assert held_by(intake) == [waiting.operation_id]
