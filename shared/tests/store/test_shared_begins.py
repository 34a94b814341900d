"""Short attempts begin with the fetch that brings them; which ones, and what a poison message among them may cost."""

from datetime import timedelta

import pytest
from chassis.store_calls import Gone

SECOND = timedelta(seconds=1)
SHORT = {"t": 1}


class Run:
    """An attempt that began with its fetch, as the desk's own words take it."""

    def __init__(self, delivery):
        self.operation_id, self.delivery, self.token = delivery.operation_id, delivery.delivery, delivery.begun.token


def begun(fetched):
    return [delivery.begun is not None for delivery in fetched.deliveries]


def test_what_began_with_its_fetch_runs_and_is_settled(desk):
    """It has counted, has a token and a span, and needs no begin of its own."""
    operation_id = desk.accept()
    (delivery,) = desk.fetched(costs=SHORT).deliveries

    seen = desk.observe(operation_id)
    assert (seen.state, seen.attempts, seen.deliveries) == ("RUNNING", 1, 0)
    assert (delivery.begun.attempt, delivery.begun.previous_span, len(delivery.begun.span_id)) == (1, "", 8)
    assert desk.verbs(operation_id) == ["accepted", "began"]
    assert isinstance(desk.try_to_begin(delivery)[0], Gone)
    assert desk.settle(Run(delivery), "SUCCEEDED", result=b"r") == "SUCCEEDED"


def test_tokens_and_spans_are_new_in_every_fetch(desk):
    """A token of an earlier attempt settles nothing."""
    desk.accept()
    (first,) = desk.fetched(costs=SHORT).deliveries
    desk.settle(Run(first), "RETRIED")
    (second,) = desk.fetched(costs=SHORT).deliveries

    assert first.begun.token != second.begun.token
    assert first.begun.span_id != second.begun.span_id
    assert second.begun.previous_span == first.begun.span_id.hex()
    assert desk.settle(Run(first), "SUCCEEDED") == "stale"


def test_they_begin_together_only_as_far_as_the_budget_goes(desk):
    """The rest of the fetch begins later, each by itself."""
    for _ in range(5):
        desk.accept()

    assert begun(desk.fetched(5, costs={"t": 2}, budget=5)) == [True, True, False, False, False]


@pytest.mark.parametrize("costs", [{}, {"t": 6}, {"u": 1}])
def test_a_task_that_is_long_or_not_known_begins_alone(desk, costs):
    """Its worker may die under it long after its neighbours have ended."""
    desk.accept()

    assert begun(desk.fetched(costs=costs)) == [False]


def test_the_last_attempt_begins_alone(desk):
    """A neighbour that kills the worker must not make a dead letter of it."""
    desk.accept(max_attempts=1)
    desk.accept(max_attempts=2)

    assert begun(desk.fetched(costs=SHORT)) == [False, True]


def test_an_operation_whose_worker_died_begins_alone_from_then_on(desk):
    """A poison message costs those that began with it one attempt, not all of theirs."""
    for _ in range(3):
        desk.accept(max_attempts=9)
    first = desk.fetched(costs=SHORT)
    assert begun(first) == [True, True, True]

    desk.release(*map(Run, first.deliveries), lost=True)
    second = desk.fetched(costs=SHORT)
    assert begun(second) == [False, False, False]

    runs = [desk.begin(delivery) for delivery in second.deliveries]
    desk.settle(runs[0], "RETRIED", delay=timedelta(0))
    desk.release(*runs[1:], lost=True)
    assert sorted(begun(desk.fetched(costs=SHORT))) == [False, False, True]


def test_a_dead_letter_says_how_often_its_worker_died(desk):
    """Attempts that ended in another way are not counted in."""
    operation_id = desk.accept(max_attempts=3)
    desk.settle(desk.again(operation_id), "RETRIED")
    for _ in range(2):
        desk.release(desk.again(operation_id), lost=True)

    assert desk.observe(operation_id).error == (14, "WORKER_LOST", "the worker died 2 times")


def test_an_expired_operation_does_not_begin_with_a_fetch(desk):
    """It ends instead."""
    operation_id = desk.accept(expires_in=5 * SECOND)
    desk.advance(5 * SECOND)

    assert desk.fetched(costs=SHORT).deliveries == []
    assert desk.state(operation_id) == "EXPIRED"
