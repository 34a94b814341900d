"""Fetch: due operations by priority and queue, each with a lease; what a worker cannot run is set aside."""

from collections import Counter
from datetime import timedelta

import pytest

SECOND = timedelta(seconds=1)


def test_operations_of_one_priority_come_in_the_order_of_acceptance(desk):
    """First accepted, first fetched."""
    accepted = []
    for _ in range(4):
        accepted.append(desk.accept())
        desk.advance(SECOND)

    assert desk.fetch(2) == accepted[:2]
    assert desk.fetch(5) == accepted[2:]
    assert desk.fetch() == []


def test_a_delivery_has_what_the_worker_needs(desk):
    """Id, record, task, queue, attempts so far; and it is leased."""
    item = desk.an_acceptance(payload="x")
    desk.verdict(item)

    (delivery,) = desk.fetched().deliveries

    assert (delivery.operation_id, delivery.record) == (item.record.id, item.record.SerializeToString())
    assert (delivery.task, delivery.queue, delivery.attempts) == ("t", "q", 0)
    assert desk.observe(item.record.id).places == {"leased"}


def test_deliveries_have_names_of_their_own(desk):
    """Within a fetch and over fetches."""
    for _ in range(4):
        desk.accept()
    deliveries = desk.fetched(2).deliveries + desk.fetched(2).deliveries

    assert len({delivery.delivery for delivery in deliveries}) == 4


@pytest.mark.parametrize(("limit", "rounds"), [(1, 30), (5, 6), (30, 1)])
def test_every_priority_has_its_share(desk, limit, rounds):
    """Of ten turns six begin with HIGH, three with NORMAL, one with LOW, however many a fetch takes."""
    priority = {desk.accept(priority=p): p for p in (1, 2, 3) for _ in range(40)}

    taken = Counter(priority[id_] for _ in range(rounds) for id_ in desk.fetch(limit))

    assert taken.total() == 30
    shares = {3: 18, 2: 9, 1: 3}
    assert all(abs(taken[p] - share) <= limit for p, share in shares.items()), taken
    assert all(taken.values())


def test_a_priority_that_has_nothing_leaves_its_turns_to_the_others(desk):
    """No turn is wasted."""
    low = [desk.accept(priority=1) for _ in range(7)]

    assert sorted(desk.fetch(10)) == low


@pytest.mark.parametrize("count", [2, 3, 5, 10, 11])
def test_every_queue_has_its_share_of_every_priority(desk, count):
    """None starves, whatever the number of queues: in 10 turns per queue each gives something of each priority."""
    queues = tuple(f"q{number}" for number in range(count))
    home = {
        desk.accept(queue=queue, priority=priority): (queue, priority)
        for queue in queues
        for priority in (1, 2, 3)
        for _ in range(8)
    }

    taken = Counter(home[id_] for _ in range(10 * count) for id_ in desk.fetch(1, queues=queues))

    assert {key for key, number in taken.items() if number} == set(home.values())


def test_a_worker_gets_the_queues_that_it_asks_for(desk):
    """And no others."""
    wanted, other = desk.accept(queue="a"), desk.accept(queue="b")

    assert desk.fetch(queues=("a",)) == [wanted]
    assert desk.fetch(queues=("b", "a")) == [other]


def test_a_paused_queue_gives_nothing_and_keeps_everything(desk):
    """Other queues of the worker go on; after resume it gives again."""
    held, free = desk.accept(queue="a"), desk.accept(queue="b")
    desk.bench.pause("a")

    assert desk.fetch(queues=("a", "b")) == [free]
    assert desk.observe(held).places == {"queue"}

    desk.bench.pause("a", paused=False)
    assert desk.fetch(queues=("a", "b")) == [held]


def test_an_unknown_task_is_parked_and_offered_to_a_worker_that_knows_it(desk):
    """It stays QUEUED at its place; it costs no delivery and hides nothing behind it."""
    unknown, known = desk.accept(task="new"), desk.accept()

    assert desk.fetch(tasks=("t",)) == [known]
    assert desk.observe(unknown).places == {"parked"}
    assert (desk.state(unknown), desk.observe(unknown).deliveries) == ("QUEUED", 0)
    assert desk.fetch(tasks=("t",)) == []

    assert desk.fetch(tasks=("t", "new")) == [unknown]
    assert desk.verbs(unknown) == ["accepted", "parked", "queued"]


def test_a_parked_operation_can_be_cancelled_and_expires(desk):
    """Both end it like any operation that waits."""
    cancelled, expires = desk.accept(task="new"), desk.accept(task="new", expires_in=5 * SECOND)
    desk.fetch(tasks=("t",))

    assert desk.cancel(cancelled) == ["cancelled"]
    desk.pass_time(6 * SECOND)

    assert (desk.state(cancelled), desk.state(expires)) == ("CANCELLED", "EXPIRED")
    assert desk.fetch(tasks=("new",)) == []


def test_the_eleventh_delivery_without_a_begin_is_a_dead_letter(desk):
    """Workers that die before they begin cannot loop for ever: ten deliveries, then FAILED, parked for inspection."""
    operation_id = desk.accept()
    for _ in range(10):
        (delivery,) = desk.fetched().deliveries
        desk.pass_time(timedelta(seconds=17))
        assert desk.state(operation_id) == "QUEUED"

    assert desk.fetch() == []

    seen = desk.observe(operation_id)
    assert (seen.state, seen.attempts, seen.places) == ("FAILED", 0, {"finished", "dead"})
    assert seen.error[1] == "DELIVERIES_EXHAUSTED"
    assert delivery.attempts == 0


def test_a_begin_starts_the_count_of_deliveries_anew(desk):
    """Only deliveries since the last begin count."""
    operation_id = desk.accept(max_attempts=5)
    for _ in range(9):
        desk.fetch()
        desk.pass_time(timedelta(seconds=17))
    run = desk.again(operation_id)
    assert desk.observe(operation_id).deliveries == 0

    desk.settle(run, "RETRIED")
    for _ in range(10):
        assert desk.fetch() == [operation_id]
        desk.pass_time(timedelta(seconds=17))
    assert desk.state(operation_id) == "QUEUED"


def test_an_operation_that_expired_in_its_queue_is_not_delivered(desk):
    """The fetch that meets it ends it, without waiting for housekeeping."""
    operation_id = desk.accept(expires_in=5 * SECOND)
    desk.advance(5 * SECOND)

    assert desk.fetch() == []
    assert desk.state(operation_id) == "EXPIRED"


def test_a_fetch_of_nothing_changes_nothing(desk):
    """A limit of 0 delivers nothing; an empty store says that nothing falls due."""
    operation_id = desk.accept()

    assert desk.fetch(0) == []
    assert desk.observe(operation_id).places == {"queue"}
    assert desk.fetch(1) == [operation_id]
    assert desk.fetched().next_due is None
