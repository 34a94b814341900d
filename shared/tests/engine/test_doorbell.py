"""The doorbell: whoever waits for work hears of it at once."""

import pytest
from chassis import store_calls
from waybill.operations.v1 import operations_pb2 as ops


@pytest.fixture
def rung(store):
    """`rung()`: whether the bell has been rung since it was last asked."""

    def ask():
        key = store.keys.bell("test.q")
        count = store.client.llen(key)
        store.client.delete(key)
        assert count <= 1, "a bell that is rung already is not rung again"
        return count == 1

    return ask


def fetch(store, limit=10):
    fetch.count = getattr(fetch, "count", 0) + 1
    call = store_calls.fetch(limit, ["test.q"], ["test.do"], session=f"b{fetch.count}")
    return [(d.operation_id, d.delivery) for d in store.run(call).deliveries]


def test_acceptance_rings_once(work, rung):
    """However many are accepted before somebody comes."""
    work.accept(3)
    work.accept(2)

    assert rung()
    assert not rung()


def test_a_fetch_that_leaves_something_rings_for_the_next_worker(work, store, rung):
    """One that takes everything does not."""
    work.accept(3)
    rung()

    fetch(store, 2)
    assert rung()
    fetch(store, 2)
    assert not rung()


@pytest.mark.parametrize("lost", [True, False])
def test_what_is_given_up_rings(work, store, rung, lost):
    """Its queue has work again."""
    work.accept(1)
    held = fetch(store)
    rung()

    store.run(store_calls.release(held, lost=lost))

    assert rung()


def test_what_falls_due_rings_when_it_is_promoted_and_when_it_is_deferred(work, store, rung):
    """An idle worker learns how long it may sleep, and housekeeping wakes it where it slept too long."""
    (operation_id,) = work.accept(1)
    token = work.begin(operation_id)
    rung()
    work.settle(operation_id, "RETRIED", token=token)
    assert rung()

    store.run(store_calls.housekeeping())

    assert store.client.hget(store.keys.operation(operation_id), "st") == str(ops.OPERATION_STATE_QUEUED).encode()
    assert rung()


@pytest.mark.slow
def test_an_idle_worker_begins_at_once(stack, submit):
    """Not with its next look, a second later."""
    waited = 0.0
    for _ in range(5):
        _, metadata = stack.finished(submit("sample.echo"))
        (attempt,) = metadata.attempts
        waited += (attempt.begin_time.ToMicroseconds() - metadata.create_time.ToMicroseconds()) / 10**6

    assert waited < 1.5
