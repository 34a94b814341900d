"""Release, cancel, delete, publish, and what housekeeping does for everybody."""

from datetime import timedelta

import pytest
from chassis import store_calls
from chassis.store_calls import Housekeeping, housekeeping, housekeeping_interval

SECOND = timedelta(seconds=1)


def test_what_was_not_begun_goes_back_to_its_place(desk):
    """A drain costs no delivery and no attempt; the place in the queue is the old one."""
    delivery = desk.deliver()
    desk.advance(SECOND)
    later = desk.accept()

    assert desk.release(delivery, lost=False) == 1

    seen = desk.observe(delivery.operation_id)
    assert (seen.places, seen.deliveries, seen.attempts) == ({"queue"}, 0, 0)
    assert desk.fetch() == [delivery.operation_id, later]


def test_what_was_not_begun_by_a_dead_worker_has_cost_a_delivery(desk):
    """Ten of these park it."""
    delivery = desk.deliver()

    assert desk.release(delivery, lost=True) == 1
    assert desk.observe(delivery.operation_id).deliveries == 1


def test_what_runs_is_not_a_drains_to_give_back(desk):
    """It runs on and settles itself."""
    run = desk.start()

    assert desk.release(run, lost=False) == 0

    assert desk.state(run.operation_id) == "RUNNING"
    assert desk.settle(run, "SUCCEEDED") == "SUCCEEDED"


def test_what_ran_in_a_dead_worker_is_lost_at_once(desk):
    """Without waiting for the lease: attempt 2 may begin."""
    run = desk.start()

    assert desk.release(run, lost=True) == 1

    assert desk.observe(run.operation_id).log == ((1, "LOST", "WORKER_LOST"),)
    assert desk.again(run.operation_id).number == 2


def test_a_delivery_that_is_held_no_more_is_nobodys_to_release(desk):
    """Taken over, ended, unknown: 0."""
    run = desk.start()
    desk.pass_time(16 * SECOND)
    second = desk.again(run.operation_id)
    before = desk.observe(run.operation_id)

    assert [desk.release(run, lost=lost) for lost in (True, False)] == [0, 0]
    assert desk.observe(run.operation_id) == before
    desk.settle(second, "SUCCEEDED")
    assert desk.release(second, type(run)("unknown", "d", "", 1, ""), lost=True) == 0


@pytest.mark.parametrize("where", ["queued", "delivered", "scheduled", "retrying"])
def test_cancelling_what_does_not_run_ends_it(desk, where):
    """CANCELLED at once, and it is nowhere any more."""
    if where == "scheduled":
        operation_id = desk.accept(due_in=SECOND)
    elif where == "retrying":
        run = desk.start()
        desk.settle(run, "RETRIED", delay=SECOND)
        operation_id = run.operation_id
    else:
        operation_id = desk.accept()
        if where == "delivered":
            desk.fetch()

    assert desk.cancel(operation_id) == ["cancelled"]

    seen = desk.observe(operation_id)
    assert (seen.state, seen.error[0], seen.places) == ("CANCELLED", 1, {"finished"})
    desk.pass_time(20 * SECOND)
    assert desk.fetch() == []


def test_cancelling_nothing_says_so(desk):
    """Unknown; each id has its own answer."""
    operation_id = desk.accept()

    assert desk.cancel("unknown", operation_id, operation_id) == ["unknown", "cancelled", "final"]


def test_only_what_has_ended_can_be_deleted(desk):
    """Live operations must be cancelled first."""
    live, run = desk.accept(queue="other"), desk.start()
    desk.settle(run, "FAILED")

    answers = desk.run_call(store_calls.delete([live, run.operation_id, run.operation_id]))

    assert answers == ["live", "deleted", "unknown"]
    assert desk.observe(run.operation_id) is None
    assert desk.state(live) == "QUEUED"


def test_an_event_is_published_once(desk):
    """A second attempt that owes the same event publishes nothing."""
    events = [("e1", "waybill.test.a", b"1"), ("e2", "waybill.test.b", b"2")]

    assert desk.run_call(store_calls.publish(events)) == [True, True]
    assert desk.run_call(store_calls.publish([*events, ("e3", "waybill.test.a", b"3")])) == [False, False, True]

    assert [entry.verb for entry in desk.bench.log()] == ["waybill.test.a", "waybill.test.b", "waybill.test.a"]


def test_housekeeping_is_throttled_over_all_processes(desk):
    """Within the interval everybody but the first is told that it has been done."""
    minute = {"interval": timedelta(minutes=1)}

    assert desk.keep_house(**minute) is not None
    assert desk.keep_house(**minute) is None
    desk.advance(timedelta(minutes=1))
    assert desk.keep_house(**minute) is not None


def test_housekeeping_promotes_and_expires_what_no_worker_asks_for(desk):
    """Operations reach their states while no worker runs."""
    due, expires = desk.accept(due_in=SECOND), desk.accept(expires_in=2 * SECOND)
    both = desk.accept(due_in=10 * SECOND, expires_in=20 * SECOND)

    desk.advance(2 * SECOND)
    done = desk.keep_house()

    assert (done.promoted, done.expired) == (1, 1)
    assert (desk.state(due), desk.state(expires), desk.state(both)) == ("QUEUED", "EXPIRED", "SCHEDULED")
    assert desk.observe(expires).error[:2] == (4, "EXPIRED")
    desk.pass_time(20 * SECOND)
    assert desk.state(both) == "EXPIRED"


def test_housekeeping_rescues_what_nobody_renewed(desk):
    """A delivery goes back to its queue, an attempt is lost; neither before the lease has run out."""
    desk.keep_house()
    delivery, run = desk.deliver(), desk.start()
    for _ in range(3):
        desk.advance(4 * SECOND)
        desk.keep_house()
    assert (desk.observe(delivery.operation_id).places, desk.state(run.operation_id)) == ({"leased"}, "RUNNING")

    desk.advance(4 * SECOND)
    done = desk.keep_house()

    assert done.rescued == 2
    assert desk.observe(delivery.operation_id).places == {"queue"}
    assert desk.observe(run.operation_id).log == ((1, "LOST", "WORKER_LOST"),)


@pytest.mark.parametrize("gap", [timedelta(seconds=6), timedelta(seconds=16), timedelta(hours=1)])
def test_after_an_absence_every_lease_gets_a_full_term_first(desk, gap):
    """A server that was frozen or restarted has made owners late through no fault of theirs."""
    desk.keep_house()
    run = desk.start()
    desk.advance(gap)

    done = desk.keep_house()

    assert (done.leases_granted, done.rescued) == (1, 0)
    desk.pass_time(timedelta(seconds=14))
    assert desk.state(run.operation_id) == "RUNNING"
    desk.pass_time(timedelta(seconds=2))
    assert desk.state(run.operation_id) == "QUEUED"


def test_the_first_housekeeping_ever_takes_no_lease(unkept_desk):
    """It cannot know how long nobody was there."""
    desk = unkept_desk
    run = desk.start()
    desk.advance(timedelta(days=1))

    assert desk.keep_house().rescued == 0
    assert desk.state(run.operation_id) == "RUNNING"


@pytest.mark.parametrize("lease", [timedelta(seconds=0.5), timedelta(seconds=2), timedelta(seconds=15)])
def test_regular_housekeeping_is_no_absence_whatever_the_lease(desk, lease):
    """Work of a dead worker is rescued within the lease and one pass, with short leases too."""
    interval = housekeeping_interval(lease)
    desk.keep_house(lease=lease)
    run = desk.begin(desk.deliver(), lease=lease)

    passed = timedelta(0)
    while passed <= 2 * lease and desk.state(run.operation_id) == "RUNNING":
        desk.advance(interval)
        passed += interval
        desk.run_call(housekeeping(lease=lease))

    assert lease <= passed <= lease + 2 * interval


def test_what_has_ended_is_kept_for_its_time(desk):
    """By age only: successes and failures each as their task says, per operation."""
    success, failure = desk.start(keep_success=5 * SECOND), desk.start(keep_failure=9 * SECOND)
    desk.settle(success, "SUCCEEDED")
    desk.settle(failure, "FAILED")

    desk.pass_time(5 * SECOND)
    assert (desk.state(success.operation_id), desk.state(failure.operation_id)) == (None, "FAILED")
    desk.pass_time(4 * SECOND)
    assert desk.state(failure.operation_id) is None


@pytest.mark.parametrize("way", ["retention", "deleted"])
def test_what_is_forgotten_leaves_nothing_behind(desk, way):
    """No index names it any more, and none of its children is left in a set."""
    run = desk.start(keep_success=SECOND, keep_failure=SECOND, max_attempts=1)
    desk.accept(parent=f"operations/test/{run.operation_id}", queue="children")
    failed = desk.start(keep_failure=SECOND, max_attempts=1, expires_in=60 * SECOND)
    cancelled = desk.accept(task="new", keep_success=SECOND, expires_in=60 * SECOND)
    desk.fetch(tasks=("t",))
    desk.settle(run, "SUCCEEDED")
    desk.settle(failed, "FAILED")
    desk.cancel(cancelled)
    ids = [run.operation_id, failed.operation_id, cancelled]
    assert all(desk.bench.mentions(id_) for id_ in ids)

    if way == "retention":
        desk.pass_time(2 * SECOND)
    else:
        desk.run_call(store_calls.delete(ids))

    assert [desk.bench.mentions(id_) for id_ in ids] == [set()] * 3


def test_a_queued_operation_that_lost_its_place_gets_it_back(desk):
    """The reconciler is a safety net: nothing that was accepted stays unreachable."""
    first, lost = desk.accept(), desk.accept()
    desk.bench.misplace(lost)
    assert desk.observe(lost).places == frozenset()

    assert desk.keep_house() == Housekeeping(reconciled=1)

    assert desk.fetch() == [first, lost]
    assert desk.keep_house().reconciled == 0


def test_the_reconciler_comes_round_to_everything(desk):
    """A page at a time, also over operations that were accepted at the same instant."""
    items = [desk.an_acceptance() for _ in range(10)]
    assert set(desk.verdict(*items)) == {"accepted"}
    desk.bench.misplace(items[-1].record.id)

    found = sum(desk.keep_house(reconcile=3).reconciled for _ in range(4))

    assert found == 1
    assert desk.observe(items[-1].record.id).places == {"queue"}


def test_the_reconciler_leaves_alone_what_has_a_place(desk):
    """Delivered, parked, scheduled, running, ended."""
    desk.deliver()
    desk.accept(task="new")
    desk.fetch()
    desk.accept(due_in=SECOND)
    desk.settle(desk.start(queue="r"), "SUCCEEDED")
    desk.start(queue="r")

    assert desk.keep_house().reconciled == 0
