"""Fan-out: a parent succeeds when all of its children have ended, and says how; a cancellation reaches all of them."""

from datetime import timedelta

RESULT = b"packed"


def child_of(desk, parent, number=1, **options):
    options = {"queue": "children", "scope": f"{parent.operation_id}/{number}", **options}
    return desk.accept(parent=f"operations/test/{parent.operation_id}", **options)


def begin_child(desk, operation_id):
    (delivery,) = [d for d in desk.fetched(queues=("children",)).deliveries if d.operation_id == operation_id]
    return desk.begin(delivery)


def test_a_parent_waits_for_its_last_child(desk):
    """RUNNING, without a lease, until the last child ends; then SUCCEEDED with its own response."""
    parent = desk.start()
    children = [child_of(desk, parent, number) for number in range(2)]
    assert desk.settle(parent, "FANNED_OUT", result=RESULT) == "RUNNING"
    assert desk.observe(parent.operation_id).places == frozenset()

    deliveries = desk.fetched(queues=("children",)).deliveries
    runs = [desk.begin(delivery) for delivery in deliveries]
    desk.settle(runs[0], "SUCCEEDED")
    assert desk.state(parent.operation_id) == "RUNNING"
    desk.settle(runs[1], "SUCCEEDED")

    seen = desk.observe(parent.operation_id)
    assert (seen.state, seen.result, seen.children) == ("SUCCEEDED", RESULT, (2, 2, 0, 0, 0))
    assert {run.operation_id for run in runs} == set(children)
    assert desk.verbs(parent.operation_id)[-2:] == ["fanned_out", "succeeded"]


def test_children_may_end_before_the_parent_settles(desk):
    """Then its settle is its end."""
    parent = desk.start()
    child = child_of(desk, parent)
    desk.settle(begin_child(desk, child), "SUCCEEDED")

    assert desk.settle(parent, "FANNED_OUT") == "SUCCEEDED"
    assert desk.observe(parent.operation_id).children == (1, 1, 0, 0, 0)


def test_children_that_do_not_succeed_are_counted_and_the_parent_succeeds(desk):
    """How each ended is in its summary; waiting is all that the parent does."""
    parent = desk.start()
    failed, cancelled, expired, succeeded = (
        child_of(desk, parent, n, expires_in=timedelta(seconds=9) if n == 2 else None) for n in range(4)
    )
    desk.settle(parent, "FANNED_OUT")
    desk.cancel(cancelled)
    runs = {
        d.operation_id: desk.begin(d)
        for d in desk.fetched(queues=("children",)).deliveries
        if d.operation_id != expired
    }
    desk.settle(runs[failed], "FAILED")
    desk.settle(runs[succeeded], "SUCCEEDED")
    assert desk.state(parent.operation_id) == "RUNNING"
    desk.pass_time(timedelta(seconds=10))

    seen = desk.observe(parent.operation_id)
    assert (desk.state(expired), seen.state) == ("EXPIRED", "SUCCEEDED")
    assert seen.children == (4, 1, 1, 1, 1)


def test_a_fan_out_to_nobody_succeeds_at_once(desk):
    """No children, nothing to wait for."""
    parent = desk.start()

    assert desk.settle(parent, "FANNED_OUT", result=RESULT) == "SUCCEEDED"


def test_children_of_every_attempt_are_waited_for(desk):
    """What the store accepted counts, under whatever keys: neither is the parent hung nor ended early."""
    parent = desk.start()
    child_of(desk, parent, 1)
    desk.settle(parent, "RETRIED")
    second = desk.again(parent.operation_id)
    child_of(desk, second, 2)
    desk.settle(second, "FANNED_OUT")

    first_run, second_run = map(desk.begin, desk.fetched(queues=("children",)).deliveries)
    desk.settle(second_run, "SUCCEEDED")
    assert desk.state(parent.operation_id) == "RUNNING"
    desk.settle(first_run, "SUCCEEDED")

    assert desk.observe(parent.operation_id).children == (2, 2, 0, 0, 0)
    assert desk.state(parent.operation_id) == "SUCCEEDED"


def test_children_of_a_lost_attempt_are_the_children_of_the_next(desk):
    """The second attempt accepts the same keys, gets the same children, and waits for them once."""
    parent = desk.start()
    child = child_of(desk, parent)
    desk.pass_time(timedelta(seconds=17))
    second = desk.again(parent.operation_id)
    again = desk.an_acceptance(
        parent=f"operations/test/{parent.operation_id}", queue="children", scope=f"{parent.operation_id}/1"
    )
    assert desk.verdict(again) == ["same"]

    desk.settle(second, "FANNED_OUT")
    desk.settle(begin_child(desk, child), "SUCCEEDED")

    assert desk.observe(parent.operation_id).children == (1, 1, 0, 0, 0)
    assert desk.state(parent.operation_id) == "SUCCEEDED"


def test_cancelling_a_waiting_parent_cancels_its_children(desk):
    """Those that wait end, those that run are told; the parent is CANCELLED at once."""
    parent = desk.start()
    running, waiting, ended = (child_of(desk, parent, number) for number in range(3))
    runs = {d.operation_id: d for d in desk.fetched(queues=("children",)).deliveries}
    run = desk.begin(runs[running])
    desk.settle(desk.begin(runs[ended]), "SUCCEEDED")
    desk.settle(parent, "FANNED_OUT")

    assert desk.cancel(parent.operation_id) == ["cancelled"]

    assert desk.state(parent.operation_id) == "CANCELLED"
    assert (desk.state(waiting), desk.state(ended)) == ("CANCELLED", "SUCCEEDED")
    assert desk.observe(running).cancel_requested
    assert desk.settle(run, "FAILED") == "CANCELLED"


def test_cancelling_a_running_parent_cancels_the_children_that_it_has(desk):
    """The parent is told, and whatever it says then but success, it is CANCELLED."""
    parent = desk.start()
    child = child_of(desk, parent)

    assert desk.cancel(parent.operation_id) == ["requested"]

    assert desk.state(child) == "CANCELLED"
    assert desk.settle(parent, "FANNED_OUT") == "CANCELLED"


def test_a_cancellation_reaches_grandchildren(desk):
    """However deep the fan-out goes."""
    parent = desk.start()
    middle = begin_child(desk, child_of(desk, parent))
    grandchild = child_of(desk, middle, queue="grandchildren")
    desk.settle(middle, "FANNED_OUT")
    desk.settle(parent, "FANNED_OUT")

    desk.cancel(parent.operation_id)

    states = [desk.state(id_) for id_ in (parent.operation_id, middle.operation_id, grandchild)]
    assert states == ["CANCELLED"] * 3


def test_a_grandchild_ends_the_whole_line(desk):
    """The last end travels up in one step."""
    parent = desk.start()
    middle = begin_child(desk, child_of(desk, parent))
    grandchild = child_of(desk, middle)
    desk.settle(middle, "FANNED_OUT")
    desk.settle(parent, "FANNED_OUT")

    desk.settle(begin_child(desk, grandchild), "SUCCEEDED")

    assert [desk.state(run.operation_id) for run in (middle, parent)] == ["SUCCEEDED", "SUCCEEDED"]


def test_a_child_that_outlives_its_parent_ends_alone(desk):
    """A parent that failed stays as it is; one that is forgotten is not missed."""
    failed = desk.start(max_attempts=1)
    child = child_of(desk, failed)
    desk.settle(failed, "FAILED")
    run = begin_child(desk, child)

    assert desk.settle(run, "SUCCEEDED") == "SUCCEEDED"
    assert desk.state(failed.operation_id) == "FAILED"

    gone = desk.start(max_attempts=1, keep_failure=timedelta(0))
    child = child_of(desk, gone)
    desk.settle(gone, "FAILED")
    desk.keep_house()
    assert desk.observe(gone.operation_id) is None
    assert desk.settle(begin_child(desk, child), "SUCCEEDED") == "SUCCEEDED"
