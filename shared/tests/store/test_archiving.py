"""What the archive is to have, and when the store may forget it."""

from datetime import timedelta

import pytest
from chassis import archive_calls

TAIL = timedelta(minutes=10)
DAY = timedelta(days=1)


def test_only_what_has_ended_goes_into_the_archive(desk):
    """Each with its hash; what waits or runs does not."""
    done = desk.start()
    desk.settle(done, "SUCCEEDED")
    desk.accept()
    desk.start(queue="other")
    desk.accept(due_in=DAY)

    (item,) = desk.unarchived()

    assert item.operation_id == done.operation_id
    assert {b"rec", b"st", b"et"} <= item.stored.keys()


@pytest.mark.parametrize("ending", ["SUCCEEDED", "FAILED", "cancelled", "expired"])
def test_every_final_state_is_archived_once(desk, ending):
    """What is marked is not offered again."""
    if ending in {"SUCCEEDED", "FAILED"}:
        run = desk.start()
        desk.settle(run, ending)
        operation_id = run.operation_id
    else:
        operation_id = desk.accept(expires_in=timedelta(seconds=1))
        desk.advance(timedelta(seconds=2))
        desk.cancel(operation_id) if ending == "cancelled" else desk.keep_house()

    assert desk.archive() == [operation_id]
    assert desk.archive() == []


def test_what_is_archived_stays_for_the_tail(desk):
    """No longer, however long its retention is; its dead letter goes with it."""
    success, failure = desk.start(), desk.start()
    desk.settle(success, "SUCCEEDED")
    desk.settle(failure, "FAILED")
    ids = [success.operation_id, failure.operation_id]
    desk.archive()

    desk.advance(TAIL - timedelta(seconds=1))
    desk.keep_house()
    assert [desk.state(id_) for id_ in ids] == ["SUCCEEDED", "FAILED"]
    desk.advance(timedelta(seconds=1))
    desk.keep_house()
    assert [desk.bench.mentions(id_) for id_ in ids] == [set(), set()]


def test_what_no_archive_has_stays_for_all_of_its_retention(desk):
    """Read and not marked, as by an archivist that died: nothing is forgotten before its time."""
    run = desk.start(keep_success=7 * DAY)
    desk.settle(run, "SUCCEEDED")
    desk.unarchived()

    desk.advance(7 * DAY - timedelta(minutes=1))
    desk.keep_house()

    assert desk.state(run.operation_id) == "SUCCEEDED"
    desk.advance(timedelta(minutes=1))
    desk.keep_house()
    assert desk.state(run.operation_id) is None


@pytest.mark.parametrize("keep", [timedelta(minutes=5), TAIL])
def test_what_is_kept_for_no_longer_than_the_tail_is_never_archived(desk, keep):
    """The store serves it for all of its time."""
    run = desk.start(keep_success=keep)
    desk.settle(run, "SUCCEEDED")

    assert desk.archive() == []
    desk.pass_time(keep - timedelta(seconds=8))
    assert desk.state(run.operation_id) == "SUCCEEDED"
    assert desk.archive() == []
    desk.pass_time(timedelta(seconds=8))
    assert desk.state(run.operation_id) is None


def test_a_shorter_tail_archives_again_and_a_longer_one_forgets_nothing_early(desk):
    """The setting may change under operations that have ended."""
    run = desk.start()
    desk.settle(run, "SUCCEEDED")
    desk.archive()

    assert desk.archive(tail=timedelta(minutes=1)) == [run.operation_id]
    assert desk.archive(tail=timedelta(hours=1)) == []
    desk.advance(timedelta(minutes=1))
    desk.keep_house()
    assert desk.state(run.operation_id) is None


def test_one_archives_at_a_time(desk):
    """Another is told so until the turn has run out."""
    run = desk.start()
    desk.settle(run, "SUCCEEDED")

    assert desk.unarchived(who="a") is not None
    assert desk.unarchived(who="b") is None
    desk.advance(archive_calls.ARCHIVE_TURN)
    assert [item.operation_id for item in desk.unarchived(who="b")] == [run.operation_id]
    assert desk.unarchived(who="a") is None


def test_a_batch_is_bounded(desk):
    """At most so many operations."""
    runs = [desk.start() for _ in range(3)]
    for run in runs:
        desk.settle(run, "SUCCEEDED")

    first = desk.unarchived(limit=2)
    assert len(first) == 2
    assert desk.run_call(archive_calls.archived(first, tail=TAIL)) == 2
    assert len(desk.unarchived(limit=2)) == 1


@pytest.mark.parametrize("change", ["replayed", "discarded"])
def test_a_dead_letter_that_changes_is_archived_again(desk, change):
    """Also when that happens between reading and marking: the mark is for what was read."""
    run = desk.start(max_attempts=1)
    desk.settle(run, "FAILED")

    def touch():
        if change == "replayed":
            desk.accept(replayed_from=f"operations/test/{run.operation_id}", queue="other")
        else:
            assert desk.discard(run.operation_id) == ["discarded"]

    read = desk.unarchived()
    touch()
    assert desk.run_call(archive_calls.archived(read, tail=TAIL)) == 0
    (again,) = desk.unarchived()
    assert again.stamp != read[0].stamp
    assert desk.run_call(archive_calls.archived([again], tail=TAIL)) == 1
    if change == "replayed":
        touch()
        assert desk.archive() == [run.operation_id]
    assert desk.archive() == []


def test_a_parent_that_ended_before_its_children_is_archived_again(desk):
    """How its children ended is part of it."""
    parent = desk.start()
    child = desk.start(parent=f"operations/test/{parent.operation_id}", queue="q")
    desk.settle(parent, "FAILED")
    assert desk.archive() == [parent.operation_id]

    desk.settle(child, "SUCCEEDED")

    assert set(desk.archive()) == {parent.operation_id, child.operation_id}


def test_a_discarded_letter_is_one_no_more(desk):
    """FAILED as before; unknown and live operations are no dead letters."""
    run, live = desk.start(), desk.accept(queue="other")
    desk.settle(run, "FAILED")

    assert desk.discard(run.operation_id, run.operation_id, live, "unknown") == ["discarded", *["unknown"] * 3]

    assert desk.observe(run.operation_id).places == {"finished"}
    assert desk.state(run.operation_id) == "FAILED"


def test_replays_of_what_the_store_has_forgotten_are_remembered_until_they_are_noted(desk):
    """The last replay counts; one that came after the reading stays."""
    original = "00000000-0000-7000-8000-0000000000ff"
    first = desk.accept(replayed_from=f"operations/test/{original}")
    second = desk.accept(replayed_from=f"operations/test/{original}")

    assert desk.run_call(archive_calls.replays_noted({original: first, "unknown": first})) == 0
    assert desk.run_call(archive_calls.replays_noted({original: second})) == 1
    assert desk.run_call(archive_calls.replays_noted({original: second})) == 0


def test_what_is_past_its_time_goes_in_batches(desk):
    """Without waiting for housekeeping's turn."""
    for _ in range(3):
        desk.settle(desk.start(keep_success=timedelta(seconds=1)), "SUCCEEDED")
    desk.advance(timedelta(seconds=2))

    assert [desk.run_call(archive_calls.retire(2)) for _ in range(3)] == [2, 1, 0]
