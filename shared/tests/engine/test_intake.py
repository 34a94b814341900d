"""What a worker holds: how much, for how long, and how its attempts hear of what happens to them."""

import json
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.attempts import Ended, FencedOff
from chassis.errors import Cancelled
from chassis.intake import Costs, Intake
from chassis.keeper import Keeper
from chassis.retries import RetryPolicy
from chassis.store_calls import Settlement
from chassis.testing.memory_store import MemoryStore
from google.protobuf.struct_pb2 import Struct
from redis.exceptions import ConnectionError as RedisConnectionError
from waybill.operations.v1 import operations_pb2 as ops

LEASE = timedelta(seconds=15)
TASK = SimpleNamespace(name="test.do", policy=RetryPolicy(), queue_name="test.q", default_priority=2, retention=None)


class Store(MemoryStore):
    """In memory, and out of reach when told."""

    away = False
    keys = store_calls.Keys("test")
    on_settle = staticmethod(lambda: None)

    def run(self, call):
        if self.away:
            raise RedisConnectionError("away")
        if call.script == "settle":
            self.on_settle()
        return super().run(call)

    def _write(self, arguments):
        command, key, worker, facts = arguments
        assert (command, key) == ("HSET", "workers")
        self.client.workers[worker] = json.loads(facts)
        return 1


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def intake(store):
    return Intake(store, worker="test@h:1", queues=["test.q"], tasks=lambda: ["test.do"], lease=LEASE)


def held_by(intake):
    """Operations of this worker that it has not lost."""
    return sorted(held.item.operation_id for held in intake.snapshot() if not held.fenced)


def accept(store, count=1):
    items = [acceptance(Submission(TASK, Struct()), Provenance("", "S/M")) for _ in range(count)]
    store.run(store_calls.accept(items))
    return [item.record.id for item in items]


def begin(store, item):
    begun = store.run(
        store_calls.begin(
            item.operation_id, item.delivery, worker="w", token=item.token, span=item.span_id, lease=LEASE
        )
    )
    assert isinstance(begun, store_calls.Begun)


def started(intake, store, item, attempt=None):
    """A slot has taken it, and its attempt has begun."""
    assert intake.start(item.delivery)
    if not item.begun:
        begin(store, item)
    intake.runs_in(item.delivery, attempt=attempt)


def succeeded(item, seconds=0.001):
    return Ended(Settlement(item.operation_id, item.token, ops.ATTEMPT_OUTCOME_SUCCEEDED, result=b"r"), seconds)


class Told:
    """Stands for an attempt: remembers why it was told to stop."""

    def __init__(self):
        self.error = None

    def stop(self, error):
        self.error = error


def test_a_worker_holds_what_it_fetched_until_it_is_finished(intake, store):
    """An attempt that had nothing to run returns its place and nothing else."""
    ids = accept(store, 3)
    deliveries = intake.fetch(2)[0]

    assert [delivery.operation_id for delivery in deliveries] == sorted(ids)[:2]
    assert held_by(intake) == sorted(ids)[:2]

    intake.ended(deliveries[0].delivery, None)
    assert held_by(intake) == sorted(ids)[1:2]


def test_what_is_held_is_renewed(intake, store):
    """Delivered and running alike; nobody rescues it while its worker lives."""
    accept(store, 2)
    first, _ = intake.fetch(2)[0]
    begin(store, first)
    for _ in range(6):
        store.advance(timedelta(seconds=4))
        intake.renew()
        store.run(store_calls.housekeeping(lease=LEASE))

    assert {entry.verb for entry in store.log} == {"accepted", "began"}
    assert intake.held == 2


def test_a_running_attempt_hears_of_its_cancellation(intake, store):
    """With the next renewal; it is renewed all the same."""
    (operation_id,) = accept(store)
    (delivery,) = intake.fetch(1)[0]
    attempt = Told()
    started(intake, store, delivery, attempt)
    intake.renew()
    assert attempt.error is None

    store.run(store_calls.cancel([operation_id]))
    intake.renew()

    assert isinstance(attempt.error, Cancelled)
    assert intake.held == 1


def test_an_attempt_that_was_taken_over_is_told_and_refused(intake, store):
    """Another worker has the work by now; what this attempt says at its end is recorded and changes nothing."""
    (operation_id,) = accept(store)
    (delivery,) = intake.fetch(1)[0]
    attempt = Told()
    started(intake, store, delivery, attempt)
    store.run(store_calls.release([(operation_id, delivery.delivery)], lost=True))

    intake.renew()
    assert isinstance(attempt.error, FencedOff)
    assert held_by(intake) == []

    intake.ended(delivery.delivery, succeeded(delivery))
    intake.settler.start()
    assert intake.settler.flush(20)
    assert store.log[-1].verb == "fenced"
    assert store.operations[operation_id].state == ops.OPERATION_STATE_QUEUED


def test_a_delivery_that_was_taken_over_before_it_started_is_dropped(intake, store):
    """A slot that comes to it later runs nothing."""
    (operation_id,) = accept(store)
    (delivery,) = intake.fetch(1)[0]
    store.run(store_calls.release([(operation_id, delivery.delivery)], lost=True))

    intake.renew()

    assert (intake.held, intake.start(delivery.delivery)) == (0, False)


def test_a_drain_gives_back_what_has_not_begun(intake, store):
    """Its own attempts stay held and renewed until they end."""
    first, second = sorted(accept(store, 2))
    running, waiting = intake.fetch(2)[0]
    started(intake, store, running, Told())

    intake.give_back_all()

    assert store.operations[second].delivery == ""
    assert store.operations[first].delivery == running.delivery
    assert store.operations[second].deliveries == 0
    intake.renew()
    assert held_by(intake) == [first]
    assert not intake.start(waiting.delivery)


def test_what_a_pools_child_died_of_is_lost_at_once(intake, store):
    """Its attempt counts, and the next one need not wait for the lease."""
    (operation_id,) = accept(store)
    (delivery,) = intake.fetch(1)[0]
    started(intake, store, delivery)

    intake.lost(delivery.delivery)

    assert (store.operations[operation_id].attempts, intake.held) == (1, 0)
    assert [d.operation_id for d in intake.fetch(1)[0]] == [operation_id]


@pytest.mark.parametrize("lost", [True, False])
def test_what_was_given_up_in_an_outage_is_told_after_it(intake, store, lost):
    """The next renewal that gets through tells the store."""
    (operation_id,) = accept(store)
    (delivery,) = intake.fetch(1)[0]
    store.away = True
    intake.lost(delivery.delivery) if lost else intake.give_back_all()
    assert store.operations[operation_id].delivery
    with pytest.raises(RedisConnectionError):
        intake.renew()

    store.away = False
    intake.renew()

    assert store.operations[operation_id].delivery == ""
    assert intake.held == 0


def test_deliveries_are_named_apart_over_workers(store):
    """Two workers, or two lives of one, never share a delivery's name."""
    accept(store, 2)
    options = {"worker": "w", "queues": ["test.q"], "tasks": lambda: ["test.do"], "lease": LEASE}
    names = {Intake(store, **options).fetch(1)[0][0].delivery for _ in range(2)}

    assert len(names) == 2
    assert all(":" in name for name in names)


def test_what_ended_is_held_until_it_is_settled(intake, store):
    """Its place in the prefetch is free at once; its lease is renewed until the store has the result."""
    (operation_id,) = accept(store)
    (item,) = intake.fetch(1)[0]
    started(intake, store, item)

    intake.ended(item.delivery, succeeded(item))
    assert (intake.held, intake.room()) == (1, 1)

    intake.settler.start()
    assert intake.settler.flush(20)
    intake.settler.stop()
    intake.settler.join()
    assert intake.held == 0
    assert store.operations[operation_id].state == ops.OPERATION_STATE_SUCCEEDED


def test_a_full_worker_says_when_it_has_room(intake, store):
    """The event loop sleeps meanwhile; it is woken once, not for every attempt that ends."""
    woken = []
    intake.on_room = lambda: woken.append(intake.held)
    intake.slots = 2
    accept(store, 4)
    first, second = intake.fetch(2)[0]
    assert intake.room() == 0

    for item in (first, second):
        started(intake, store, item)
        intake.ended(item.delivery, None)

    assert woken == [1]
    assert intake.room() > 0


def test_short_tasks_begin_with_the_fetch_that_brings_them(intake, store):
    """Once a few runs are known; a long one among them is believed at once."""
    accept(store, 4)
    for _ in range(3):
        (item,) = intake.fetch(1)[0]
        assert not item.begun
        intake.ended(item.delivery, succeeded(item, seconds=0.001))

    (item,) = intake.fetch(1)[0]
    assert item.begun
    assert store.operations[item.operation_id].state == ops.OPERATION_STATE_RUNNING
    intake.ended(item.delivery, succeeded(item, seconds=1.0))
    accept(store)
    assert not intake.fetch(1)[0][0].begun


def test_attempts_that_began_together_are_settled_together(intake, store, monkeypatch):
    """Whoever ends first waits for the last of them; the store is asked once for all."""
    monkeypatch.setattr("chassis.settling.GATHER_SECONDS", 20)
    called = threading.Semaphore(0)
    store.on_settle = called.release
    for _ in range(3):
        intake.costs.ran("test.do", 0.001)
    accept(store, 3)
    items = intake.fetch(3)[0]
    assert all(item.begun for item in items)
    intake.settler.start()

    for item in items[:2]:
        started(intake, store, item)
        intake.ended(item.delivery, succeeded(item, seconds=0.001))
    # A settler that waited for nobody would call within this time; one that waits is never too slow for it.
    assert not called.acquire(timeout=0.2)
    started(intake, store, items[2])
    intake.ended(items[2].delivery, succeeded(items[2], seconds=0.001))

    assert intake.settler.flush(20)
    intake.settler.stop()
    intake.settler.join()
    assert called.acquire(blocking=False)
    assert not called.acquire(blocking=False)
    assert {store.operations[item.operation_id].state for item in items} == {ops.OPERATION_STATE_SUCCEEDED}


def test_a_fetch_brings_no_more_short_attempts_than_can_begin_with_it(intake, store):
    """One that came without having begun would cost a round trip of its own. Long ones are no reason to fetch less."""
    intake.slots = 40
    intake.costs.ran("test.do", 0.001)
    for _ in range(200):
        intake.costs.ran("test.do", 0.004)
    assert 40 <= intake.room() <= 60

    intake.costs = Costs()
    for _ in range(200):
        intake.costs.ran("test.do", 10.0)
    assert intake.room() == 40


def test_what_began_with_its_fetch_and_never_started_is_given_back_by_a_drain(intake, store):
    """Its attempt does not count, and the pool that comes to it later runs nothing."""
    intake.costs.ran("test.do", 0.001)
    for _ in range(3):
        intake.costs.ran("test.do", 0.001)
    (operation_id,) = accept(store)
    (item,) = intake.fetch(1)[0]
    assert item.begun

    intake.give_back_all()

    assert not intake.start(item.delivery)
    intake.settler.start()
    assert intake.settler.flush(20)
    kept = store.operations[operation_id]
    assert (kept.state, kept.attempts, kept.returns) == (ops.OPERATION_STATE_QUEUED, 0, 1)


class Client:
    """What there is of heartbeats."""

    def __init__(self):
        self.workers = {}

    def hdel(self, key, name):
        self.workers.pop(name, None)


@pytest.fixture
def keeper(intake, store):
    store.client, store.keys = Client(), store_calls.Keys("test")
    return Keeper(intake, lambda: {"pool": "threads"}, task_named=lambda name: TASK)


def test_a_heartbeat_says_what_the_worker_has(keeper, intake, store):
    """Its facts, what runs of what it has fetched, and whether it drains; a worker that ends takes it away."""
    accept(store, 2)
    running, _waiting = intake.fetch(2)[0]
    intake.start(running.delivery)
    intake.draining = True

    keeper.beat()

    beat = store.client.workers["test@h:1"]
    assert (beat["pool"], beat["operations"], beat["draining"]) == ("threads", [running.operation_id], True)
    assert beat["heartbeat_us"] > 0
    keeper.stop()
    assert store.client.workers == {}


def test_a_heartbeat_that_is_under_way_lists_nobody_who_has_ended(keeper, store, monkeypatch):
    """However late it is written, the entry of a worker that stops meanwhile is gone."""
    write, ender = store.run, threading.Thread(target=keeper.stop)

    def written_late(call):
        ender.start()
        ender.join(0.3)
        return write(call)

    monkeypatch.setattr(store, "run", written_late)
    keeper.beat()
    ender.join()

    assert store.client.workers == {}


def test_an_outage_does_not_end_the_keeper(keeper, store):
    """It tries again within a second, and goes on with everything else."""
    store.away = True
    calls = []

    def failing():
        calls.append(1)
        raise RedisConnectionError("away")

    before = time.monotonic()
    keeper._every("renew", 5.0, failing)
    keeper._every("renew", 5.0, failing)

    assert calls == [1]
    assert keeper._next["renew"] - before < 1.5
