"""A fetch whose answer was lost: nobody runs what it handed out, so the next fetch of its worker takes it back."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.retries import RetryPolicy
from google.protobuf.wrappers_pb2 import StringValue

TASK = SimpleNamespace(name="t", policy=RetryPolicy(), queue_name="test.q", default_priority=2, retention=None)
SECOND = timedelta(seconds=1)
SHORT = {"t": 1}


@pytest.mark.parametrize("costs", [{}, SHORT])
def test_what_an_unheard_fetch_handed_out_comes_again_at_once(desk, costs):
    """Neither a delivery nor an attempt is used up, however often it happens in between."""
    operation_id = desk.accept()
    for _ in range(5):
        desk.fetched(costs=costs, session="s")
        desk.advance(SECOND)

    (delivery,) = desk.fetched(costs=costs, session="s").deliveries

    seen = desk.observe(operation_id)
    assert delivery.operation_id == operation_id
    assert (seen.attempts, seen.deliveries) == ((1, 0) if costs else (0, 1))


def test_what_a_fetch_that_was_heard_handed_out_is_left_alone(desk):
    """The worker names the last one that it heard of."""
    desk.accept()
    desk.accept()
    heard = desk.fetched(1, session="s", costs=SHORT).deliveries[0]
    number = int(heard.delivery.partition(".")[2].partition(":")[0])

    others = desk.fetched(session="s", heard=number).deliveries

    assert desk.state(heard.operation_id) == "RUNNING"
    assert heard.operation_id not in [delivery.operation_id for delivery in others]
    assert len(others) == 1


def test_an_unheard_fetch_is_remembered_through_a_long_outage(store):
    """Redis's own clock goes on while it is out of reach, and a lease would be over."""
    lease = timedelta(seconds=1)
    submission = Submission(TASK, StringValue(value="x"))
    store.run(store_calls.accept([acceptance(submission, Provenance("", "S/M"))]))
    store.run(store_calls.fetch(1, [TASK.queue_name], [TASK.name], session="s", lease=lease))

    assert store.client.ttl(store.keys.named("fetched:s")) > timedelta(hours=12).total_seconds()


def test_what_has_moved_on_since_is_not_taken_back(desk):
    """Another worker has it by now, or it has ended."""
    first, second = desk.accept(), desk.accept()
    unheard = desk.fetched(session="s", costs=SHORT).deliveries
    desk.pass_time(20 * SECOND)
    taken = {delivery.operation_id: delivery for delivery in desk.fetched(session="other").deliveries}
    assert set(taken) == {first, second}
    desk.begin(taken[first])

    assert desk.fetched(session="s", heard=0).deliveries == []
    assert len(unheard) == 2
    assert desk.state(first) == "RUNNING"
    assert desk.observe(second).places == {"leased"}


def test_begins_that_nobody_hears_of_are_bounded(desk):
    """After ten returns they count, so that nothing circles for ever."""
    operation_id = desk.accept(max_attempts=3)
    for _ in range(12):
        desk.fetched(session="s", costs=SHORT)

    assert desk.observe(operation_id).returns > 10
    assert desk.observe(operation_id).log[0][1:] == ("LOST", "WORKER_LOST")
