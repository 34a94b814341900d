"""The archive: what is kept comes back as it was, is found by what filters name, and leaves by age."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from chassis.archive_calls import Unarchived
from chassis.descriptions import describe
from chassis.filters import read
from chassis.history import Selection
from chassis.telemetry import now_us
from chassis.testing.harness import metadata_of
from google.protobuf.struct_pb2 import Struct
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

NOW = now_us()
TRACE = "0af7651916cd43dd8448eb211c80319c"


def operation_id(number):
    return f"00000000-0000-7000-8000-{number:012x}"


def ended(number, state="SUCCEEDED", *, age=0, keep=timedelta(days=7), labels=None, fields=None, **record):
    """An operation as the store has it: accepted `age` seconds ago, ended at once."""
    request = Struct()
    request.update({"number": number})
    fixed = store_pb2.OperationRecord(id=operation_id(number), task="test.do", labels=labels or {}, **record)
    fixed.request.Pack(request)
    at = str(NOW - age * 1_000_000).encode()
    kept = str(keep // timedelta(microseconds=1)).encode()
    error = {b"ec": b"14", b"em": b"it broke", b"er": b"BROKEN"} if state == "FAILED" else {}
    stored = {
        b"rec": fixed.SerializeToString(),
        b"task": b"test.do",
        b"q": b"test.q",
        b"pr": b"2",
        b"max": b"3",
        b"st": str(ops.OperationState.Value(f"OPERATION_STATE_{state}")).encode(),
        b"ct": at,
        b"et": at,
        b"ks": kept,
        b"kf": kept,
        b"tr": f"{TRACE}/b7ad6b7169203331".encode(),
        b"at": b"1",
        b"a1": at + b"|b7ad6b7169203331|w@h:1",
        **error,
        **(fields or {}),
    }
    return Unarchived(operation_id(number), stored)


def numbers(archive, index="ops", wanted="", *, after=None, until=None, limit=100, **selection):
    page = archive.page(index, Selection(read(wanted), **selection), after=after, until=until, limit=limit)
    return [int(position[1].rpartition("-")[2], 16) for position, _ in page.found]


def rows(engine, table):
    with engine.connect() as connection:
        return connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))


def test_what_is_kept_comes_back_as_it_was(archive):
    """Payload, attempts, error: an archived operation is described as a live one is."""
    item = ended(1, "FAILED", labels={"team": "sre"}, request_id="r")
    archive.keep([item])

    assert archive.get(item.operation_id) == item.stored
    assert describe("test", archive.get(item.operation_id)) == describe("test", item.stored)
    assert archive.get(operation_id(2)) is None


def test_keeping_twice_is_keeping_once(archive, history_engine):
    """The second time brings up to date what has changed."""
    archive.keep([ended(1, "FAILED", labels={"team": "sre"})])
    changed = ended(1, "FAILED", labels={"team": "sre"}, fields={b"dis": b"1", b"rep": operation_id(9).encode()})
    archive.keep([changed])

    assert archive.get(operation_id(1)) == changed.stored
    assert (rows(history_engine, "operations"), rows(history_engine, "operation_labels")) == (1, 1)


def test_pages_go_by_time_and_id_newest_first(archive):
    """Both ends of a stretch, also through operations of one instant."""
    archive.keep([ended(n, age=0 if n > 3 else 10) for n in range(1, 7)])
    everything = archive.page("ops", Selection(), after=None, until=None, limit=100)
    positions = [position for position, _ in everything.found]

    assert numbers(archive) == [6, 5, 4, 3, 2, 1]
    assert numbers(archive, limit=2) == [6, 5]
    assert numbers(archive, after=positions[1]) == [4, 3, 2, 1]
    assert numbers(archive, after=positions[1], until=positions[4]) == [4, 3, 2]


def test_every_filter_field_chooses(archive):
    """By the columns; labels by their own table; text that no database takes is found as it was changed."""
    archive.keep(
        [
            ended(1),
            ended(2, "FAILED", request_id="r 1", labels={"team": "sre", "on.call": "a\0b"}),
            ended(3, parent="operations/test/x", labels={"team": "sre"}, fields={b"task": b"test.other"}),
            ended(4, fields={b"q": b"bulk", b"tr": b"11111111111111111111111111111111/b7ad6b7169203331"}),
        ]
    )

    assert numbers(archive, "ops", "state = FAILED") == [2]
    assert numbers(archive, "ops", "task = test.other") == [3]
    assert numbers(archive, "ops", "queue = bulk") == [4]
    assert numbers(archive, "ops", 'request_id = "r 1"') == [2]
    assert numbers(archive, "ops", 'request_id = ""') == [4, 3, 1]
    assert numbers(archive, "ops", f"trace_id = {TRACE}") == [3, 2, 1]
    assert numbers(archive, "ops", "parent = operations/test/x") == [3]
    assert numbers(archive, "ops", "labels.team = sre") == [3, 2]
    assert numbers(archive, "ops", "labels.team = sre AND state = SUCCEEDED") == [3]
    assert numbers(archive, "ops", 'labels.on.call = "a\0b"') == [2]


def test_dead_letters_are_failures_that_nobody_discarded(archive):
    """By the time of their end, in groups, until they are discarded."""
    archive.keep([ended(1), ended(2, "FAILED"), ended(3, "FAILED", age=5), ended(4, "FAILED", fields={b"er": b"DISK"})])
    assert numbers(archive, "dead") == [4, 2, 3]
    assert numbers(archive, "dead", group="test.do/BROKEN") == [2, 3]
    assert {(group.name, group.count) for group in archive.groups()} == {("test.do/BROKEN", 2), ("test.do/DISK", 1)}
    assert archive.groups_of([operation_id(n) for n in range(1, 1200)]) == {
        operation_id(2): "test.do/BROKEN",
        operation_id(3): "test.do/BROKEN",
        operation_id(4): "test.do/DISK",
    }

    assert archive.discard([operation_id(n) for n in range(1, 700) if n not in {3, 4}]) == {operation_id(2)}
    assert archive.discard([operation_id(n) for n in (2, 1, 9)]) == set()

    assert numbers(archive, "dead") == [4, 3]
    assert numbers(archive) == [4, 2, 1, 3]
    assert b"dis" in archive.get(operation_id(2))


def test_a_replay_is_noted_and_not_forgotten(archive):
    """Also when an archivist comes late with what the operation was before."""
    archive.keep([ended(1, "FAILED"), ended(2, "FAILED")])
    archive.note_replays({operation_id(1): operation_id(7), operation_id(8): operation_id(9)})
    archive.keep([ended(1, "FAILED")])

    described = metadata_of(describe("test", archive.get(operation_id(1))))
    assert described.replayed_by == f"operations/test/{operation_id(7)}"
    assert numbers(archive, "dead", not_replayed=True) == [2]


def test_what_is_deleted_stays_deleted(archive, history_engine):
    """Whoever brings it afterwards; what the store alone had, too. Unknown ids leave no trace."""
    late = [ended(n, "FAILED", labels={"team": "sre"}) for n in (1, 2)]
    archive.keep(late[:1])

    assert archive.delete(operation_id(1), was_live=False)
    assert not archive.delete(operation_id(1), was_live=False)
    assert not archive.delete(operation_id(2), was_live=True)
    assert not archive.delete(operation_id(3), was_live=False)
    archive.keep(late)

    assert [archive.get(operation_id(n)) for n in (1, 2)] == [None, None]
    assert (numbers(archive), numbers(archive, "dead"), archive.groups()) == ([], [], [])
    assert rows(history_engine, "operations") == 2


def test_what_is_past_its_retention_is_seen_no_more_and_leaves_in_batches(archive, history_engine):
    """By age alone: nothing else is touched."""
    old = [ended(n, age=60, keep=timedelta(seconds=30), labels={"n": str(n)}) for n in range(1, 6)]
    archive.keep([*old, ended(9, labels={"n": "9"})])
    assert numbers(archive) == [9]
    assert archive.get(operation_id(1)) is None

    assert [archive.purge(2) for _ in range(4)] == [2, 2, 1, 0]

    assert (rows(history_engine, "operations"), rows(history_engine, "operation_labels")) == (1, 1)


def test_what_cannot_be_read_is_archived_as_it_is(archive):
    """One broken record holds up nothing: it is found by what the store knows of it."""
    archive.keep([ended(1, fields={b"rec": b"\xff\xff"}), ended(2, fields={b"em": b"\xff\0"})])

    assert numbers(archive, "ops", "task = test.do") == [2, 1]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("state = 6 ORDER BY create_time_us DESC, id DESC", "operations_by_state"),
        ("task = 'x' ORDER BY create_time_us DESC, id DESC", "operations_by_task"),
        ("request_id = 'x' AND request_id != ''", "operations_by_request"),
        ("parent = 'x' AND parent != ''", "operations_by_parent"),
        ("trace_id = 'x'", "operations_by_trace"),
        ("dead_letter_group != '' ORDER BY end_time_us DESC, id DESC", "operations_dead"),
        ("queue = 'x' ORDER BY create_time_us DESC, id DESC", "operations_by_queue"),
        ("state <> 5 ORDER BY create_time_us DESC, id DESC", "operations_unsuccessful"),
        ("dead_letter_group = 'x' AND dead_letter_group != '' ORDER BY end_time_us DESC", "operations_dead_by_group"),
        ("end_time_us >= 5 AND end_time_us < 9", "operations_by_end"),
        ("keep_until_us <= 5", "operations_by_retention"),
    ],
)
def test_what_is_asked_often_has_an_index(history_engine, statement, index):
    """As SQLite plans it; PostgreSQL plans by what it has counted."""
    if history_engine.dialect.name != "sqlite":
        return
    with history_engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT id FROM operations WHERE {statement}").all()
    assert any(index in row[3] for row in plan), plan
