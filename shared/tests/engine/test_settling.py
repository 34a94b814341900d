"""The one thread that settles: what it gathers, what it waits for, and what it does in an outage."""

import threading

import pytest
from chassis.deliveries import WorkItem
from chassis.settling import BATCH_LIMIT, Settler
from chassis.store_calls import Keys, Settlement
from redis.exceptions import ConnectionError as RedisConnectionError
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

PATIENCE = 20


class Store:
    """Answers settles, and can be held up or out of reach."""

    keys = Keys("test")

    def __init__(self):
        self.batches, self.away = [], 0
        self.called, self.open = threading.Semaphore(0), threading.Event()
        self.open.set()

    def run(self, call):
        ids = call.arguments[1 :: call.arguments[0]]
        self.called.release()
        assert self.open.wait(PATIENCE)
        if "broken" in ids:
            raise LookupError("not an error of Redis")
        if self.away:
            self.away -= 1
            raise RedisConnectionError("away")
        self.batches.append(list(ids))
        return [ops.OPERATION_STATE_SUCCEEDED] * len(ids)


class Desk:
    """A settler at work, and what it has said to be settled."""

    def __init__(self):
        self.store, self.settled, self.more = Store(), [], False
        self.asked = threading.Semaphore(0)
        self.settler = Settler(self.store, more_to_come=self._more_to_come, settled=self._note)

    def _more_to_come(self):
        """Notes when it is the settler that asks: it has taken up what there is, and waits for more."""
        if threading.current_thread() is self.settler:
            self.asked.release()
        return self.more

    def _note(self, items):
        self.settled += [item.operation_id for item in items]

    def put(self, *names):
        record = store_pb2.OperationRecord().SerializeToString()
        for name in names:
            item = WorkItem(name, "d", record, "t", "q", 1, 3, "token", b"12345678", begun=True)
            self.settler.put(item, Settlement(name, "token", ops.ATTEMPT_OUTCOME_SUCCEEDED))

    def done(self):
        assert self.settler.flush(PATIENCE)
        return self.store.batches


@pytest.fixture
def desk():
    made = Desk()
    made.settler.start()
    yield made
    made.store.open.set()
    made.settler.stop()
    made.settler.join(PATIENCE)
    assert not made.settler.is_alive()


def test_what_ends_alone_is_settled_at_once(desk):
    """It waits for nobody."""
    desk.put("a")

    assert desk.done() == [["a"]]
    assert desk.settled == ["a"]


def test_what_ends_while_a_call_is_under_way_shares_the_next(desk):
    """Group commit: one round trip for all of them."""
    desk.store.open.clear()
    desk.put("a")
    assert desk.store.called.acquire(timeout=PATIENCE)
    desk.put("b", "c", "d")
    desk.store.open.set()

    assert desk.done() == [["a"], ["b", "c", "d"]]


def test_no_call_carries_more_than_the_limit(desk):
    """It bounds how long the store is kept by one script."""
    desk.store.open.clear()
    desk.put("first")
    assert desk.store.called.acquire(timeout=PATIENCE)
    desk.put(*map(str, range(BATCH_LIMIT + 5)))
    desk.store.open.set()

    assert [len(batch) for batch in desk.done()] == [1, BATCH_LIMIT, 5]


def test_what_ends_together_shares_a_call(desk, monkeypatch):
    """The first to end waits for the others that began with it, with a settler that has nothing else to do."""
    monkeypatch.setattr("chassis.settling.GATHER_SECONDS", PATIENCE)
    desk.more = True
    desk.put("a")
    assert desk.asked.acquire(timeout=PATIENCE)
    desk.put("b")
    desk.more = False
    desk.put("c")

    assert desk.done() == [["a", "b", "c"]]


def test_what_has_ended_waits_for_what_began_with_it_but_not_for_long(desk):
    """The rest of the batch may take longer than was thought."""
    desk.more = True
    desk.put("a")

    assert desk.done() == [["a"]]


def test_an_outage_loses_no_settlement(desk):
    """It is tried until the store answers; what came meanwhile follows."""
    desk.store.away = 2
    desk.put("a")

    assert desk.done() == [["a"]]
    desk.put("b")
    assert desk.done() == [["a"], ["b"]]
    assert desk.settled == ["a", "b"]


def test_a_batch_that_cannot_be_settled_stops_no_other(desk):
    """Its leases run out; what comes after it is settled."""
    desk.put("broken")
    assert desk.done() == []
    desk.put("a")

    assert desk.done() == [["a"]]
    assert desk.settled == ["broken", "a"]


def test_a_settler_that_is_told_to_end_settles_what_it_has(desk):
    """A drain loses nothing that has ended."""
    desk.store.open.clear()
    desk.put("a")
    assert desk.store.called.acquire(timeout=PATIENCE)
    desk.put("b")
    desk.settler.stop()
    desk.store.open.set()
    desk.settler.join(PATIENCE)

    assert desk.settled == ["a", "b"]
