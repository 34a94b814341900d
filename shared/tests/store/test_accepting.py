"""Accept: idempotency key, operation, event and place in one step."""

from dataclasses import replace
from datetime import timedelta

import pytest
from chassis import store_calls

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def test_an_accepted_operation_waits_in_its_queue(desk):
    """It is QUEUED, in its place, and the event log says so."""
    operation_id = desk.accept()

    seen = desk.observe(operation_id)
    assert (seen.state, seen.places, seen.attempts) == ("QUEUED", {"queue"}, 0)
    assert desk.verbs(operation_id) == ["accepted"]


def test_a_repeated_request_is_the_same_operation(desk):
    """Same scope, same payload: the first operation, and nothing is added."""
    first, second = desk.an_acceptance(scope="s"), desk.an_acceptance(scope="s")

    assert desk.verdict(first) == ["accepted"]
    (answer,) = desk.run_call(store_calls.accept([second]))

    assert (answer.verdict, answer.operation_id) == ("same", first.record.id)
    assert desk.observe(second.record.id) is None
    assert desk.fetch() == [first.record.id]


def test_a_request_id_with_another_payload_or_task_is_refused(desk):
    """The answer names the operation that it was used for."""
    first = desk.an_acceptance(scope="s", payload="a")
    desk.verdict(first)

    for other in (desk.an_acceptance(scope="s", payload="b"), desk.an_acceptance(scope="s", payload="a", task="other")):
        (answer,) = desk.run_call(store_calls.accept([other]))
        assert (answer.verdict, answer.operation_id) == ("reused", first.record.id)
        assert desk.observe(other.record.id) is None


def test_a_request_id_is_forgotten_after_a_day(desk):
    """Within 24 hours it is the same operation, after that a new one; whether the first has ended does not matter."""
    run = desk.start(scope="s")
    desk.settle(run, "SUCCEEDED")

    desk.advance(DAY - SECOND)
    assert desk.verdict(desk.an_acceptance(scope="s")) == ["same"]
    desk.advance(SECOND)
    assert desk.verdict(desk.an_acceptance(scope="s")) == ["accepted"]


def test_operations_without_a_request_id_are_all_new(desk):
    """No scope, no deduplication."""
    assert desk.verdict(desk.an_acceptance(), desk.an_acceptance()) == ["accepted", "accepted"]


def test_a_batch_is_accepted_item_by_item(desk):
    """One refused item leaves the others alone; a repeat within the batch is found too."""
    items = [desk.an_acceptance(scope="s", payload=payload) for payload in ("a", "a", "b")]
    items.append(desk.an_acceptance())

    assert desk.verdict(*items) == ["accepted", "same", "reused", "accepted"]


def test_a_full_queue_refuses_and_keeps_what_it_has(desk):
    """The bound counts what is due in all priorities of that queue, not what is delivered and not other queues."""
    kept = [desk.accept(priority=1), desk.accept(priority=3)]

    assert desk.verdict(desk.an_acceptance(scope="s"), bound=2) == ["full"]
    assert desk.verdict(desk.an_acceptance(queue="other"), bound=2) == ["accepted"]
    assert set(desk.fetch(1)) <= set(kept)
    assert desk.verdict(desk.an_acceptance(scope="s"), bound=2) == ["accepted"]


def test_a_scheduled_operation_waits_until_it_is_due(desk):
    """It is SCHEDULED, no worker gets it before, and the next fetch after promotes it."""
    operation_id = desk.accept(due_in=10 * SECOND)
    seen = desk.observe(operation_id)
    assert (seen.state, seen.places) == ("SCHEDULED", {"due"})
    assert seen.due_us == desk.bench.now_us + 10_000_000

    desk.advance(10 * SECOND - timedelta(microseconds=1))
    fetched = desk.fetched()
    assert (fetched.deliveries, fetched.next_due) == ([], timedelta(microseconds=1))

    desk.advance(timedelta(microseconds=1))
    assert desk.fetch() == [operation_id]
    assert desk.observe(operation_id).due_us == 0
    assert desk.verbs(operation_id) == ["accepted", "queued"]


def test_a_schedule_time_in_the_past_is_due_at_once(desk):
    """No state of its own for what is late."""
    item = desk.an_acceptance()
    past = replace(item, due_us=desk.bench.now_us - 1)

    assert desk.verdict(past) == ["accepted"]
    assert desk.state(item.record.id) == "QUEUED"


def test_a_child_of_a_running_operation_is_accepted(desk):
    """And of no other: unknown, waiting, ended, told to end, or waiting for the children that it has."""
    running = desk.start()
    assert desk.verdict(desk.an_acceptance(parent=f"operations/test/{running.operation_id}")) == ["accepted"]

    waiting = desk.accept(queue="elsewhere")
    ended = desk.start(queue="e")
    desk.settle(ended, "SUCCEEDED")
    told = desk.start(queue="c")
    desk.cancel(told.operation_id)
    desk.settle(running, "FANNED_OUT")
    for parent in ("unknown", waiting, ended.operation_id, told.operation_id, running.operation_id):
        orphan = desk.an_acceptance(parent=f"operations/test/{parent}")
        assert desk.verdict(orphan) == ["orphan"], desk.state(parent)
        assert desk.observe(orphan.record.id) is None


def test_a_repeated_child_is_the_same_child_even_when_its_parent_accepts_no_more(desk):
    """An idempotency key answers before the parent is asked."""
    parent = desk.start()
    child = {"parent": f"operations/test/{parent.operation_id}", "scope": "child"}
    desk.accept(**child)
    desk.settle(parent, "FANNED_OUT")

    assert desk.verdict(desk.an_acceptance(**child)) == ["same"]


def test_a_replay_names_itself_on_the_original(desk):
    """`replayed_by` is the last one; an original that is kept no longer does not matter."""
    run = desk.start(max_attempts=1)
    desk.settle(run, "FAILED")
    original = f"operations/test/{run.operation_id}"

    desk.accept(replayed_from=original)
    last = desk.accept(replayed_from=original)
    assert desk.observe(run.operation_id).replayed_by == last
    desk.accept(replayed_from="operations/test/unknown")


@pytest.mark.parametrize("scope", ["", "s"])
def test_what_was_refused_leaves_no_trace(desk, scope):
    """No operation, no event, no idempotency key."""
    desk.accept()
    refused = desk.an_acceptance(scope=scope)
    before = desk.bench.log()

    assert desk.verdict(refused, bound=1) == ["full"]
    assert desk.bench.log() == before
    assert desk.verdict(refused) == ["accepted"]
