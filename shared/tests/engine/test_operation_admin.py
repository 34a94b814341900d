"""OperationService: statistics that count each operation once, and cancelling by filter."""

import dataclasses
import statistics
from datetime import timedelta
from types import SimpleNamespace

import pytest
from chassis import archive_calls, store_calls
from chassis.archivist import Archivist
from chassis.errors import InvalidArgument, OutOfRange
from chassis.operation_admin import OperationServicer
from chassis.operations import Operations
from chassis.telemetry import now_us
from chassis.testing.harness import metadata_of
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from waybill.admin.v1 import admin_pb2
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.anyio

TAIL = timedelta(minutes=10)
APP = SimpleNamespace(service="test", queue_bound=1000)
SUCCEEDED, FAILED, CANCELLED = 5, 6, 7


@pytest.fixture
def operations(async_store, archive):
    return Operations(async_store, APP, archive=archive)


@pytest.fixture
def servicer(operations):
    return OperationServicer(operations, archived_within=TAIL)


@pytest.fixture
def archivist(async_store, archive):
    return Archivist(async_store, archive, tail=TAIL)


@pytest.fixture
def took(store):
    """`took(ids, wait, total, retention=None)`: they began and ended so many seconds after they were accepted."""

    def change(ids, wait, total, retention=None):
        for operation_id in ids:
            key = store.keys.operation(operation_id)
            end = int(store.client.hget(key, "et"))
            store.client.hset(key, mapping={"ct": end - total * 1_000_000, "start": end - (total - wait) * 1_000_000})
            if retention is not None:
                store.client.hset(key, "ks", retention * 1_000_000)
                store.client.zadd(store.keys.named("finished"), {operation_id: end + retention * 1_000_000})

    return change


async def stats(servicer, **options):
    """`{(task, state): stats}`, of one step that holds all."""
    options = {"step": Duration(seconds=86_400)} | options
    answer = await servicer.GetOperationStats(admin_pb2.GetOperationStatsRequest(**options), None)
    found = {(one.task, one.state): one for one in answer.stats}
    assert len(found) == len(answer.stats)
    return found


def seconds(latency):
    return {name: getattr(latency, name).ToTimedelta().total_seconds() for name in ("mean", "p50", "p95", "max")}


def succeed(work, count=1, **options):
    ids = work.accept(count, **options)
    for operation_id in ids:
        work.settle(operation_id, "SUCCEEDED")
    return ids


@pytest.mark.parametrize("where", ["store", "both", "split", "archive", "none"])
async def test_quantiles_are_those_of_the_operations(servicer, operations, archivist, async_store, work, took, where):
    """Nearest rank, over the store and the archive together, wherever each operation is; each counts once."""
    times = [7, 1, 9, 3, 3, 8, 2, 10, 4, 6, 5, 11, 20, 2]
    ids = succeed(work, len(times))
    for operation_id, total in zip(ids, times, strict=True):
        took([operation_id], 1, total)
    if where == "split":
        ended = await async_store.run(archive_calls.unarchived("a", tail=TAIL, limit=5))
        operations.archive.keep(ended)
        await async_store.run(archive_calls.archived(ended[:3], tail=TAIL))
    elif where in {"both", "archive"}:
        await archivist.work()
    if where == "archive":
        for operation_id in ids:
            await async_store.client.delete(async_store.keys.operation(operation_id))
        await async_store.client.delete(async_store.keys.named("finished"))
    if where == "none":
        servicer = OperationServicer(Operations(async_store, APP), archived_within=TAIL)

    (one,) = (await stats(servicer)).values()

    assert (one.task, one.state, one.count, one.attempts) == ("test.do", SUCCEEDED, 14, 14)
    assert seconds(one.total) == pytest.approx(
        {"mean": statistics.mean(times), "p50": 5, "p95": 20, "max": 20}, abs=2e-6
    )
    assert seconds(one.wait) == {"mean": 1, "p50": 1, "p95": 1, "max": 1}


async def test_what_ended_is_counted_by_task_and_state(servicer, archivist, work):
    """Attempts together; without a begin there is no wait; what has not ended is not counted."""
    succeed(work, 2)
    (retried,) = work.accept(task="test.other")
    work.settle(retried, "RETRIED")
    (cancelled, _waiting) = work.accept(2)
    await archivist.work()
    work.fail(1)
    await servicer.CancelOperations(admin_pb2.CancelOperationsRequest(filter="task = test.do", limit=1), None)

    found = await stats(servicer)

    assert {key: (one.count, one.attempts) for key, one in found.items()} == {
        ("test.do", SUCCEEDED): (2, 2),
        ("test.do", FAILED): (1, 1),
        ("test.do", CANCELLED): (1, 0),
    }
    assert found["test.do", SUCCEEDED].HasField("wait")
    assert not found["test.do", CANCELLED].HasField("wait")
    assert cancelled


async def test_a_filter_chooses_what_is_counted(servicer, archivist, work):
    """Of the archive and of the store alike."""
    work.fail(1, labels={"team": "sre"})
    work.fail(1)
    await archivist.work()
    work.fail(1, labels={"team": "sre"})

    assert [one.count for one in (await stats(servicer, filter="labels.team = sre")).values()] == [2]
    assert await stats(servicer, filter="labels.team = nobody") == {}


async def test_steps_are_whole_multiples_since_the_epoch(servicer, archivist, archive, work, store):
    """From start_time on, before end_time; steps in which nothing ended are left out."""
    minute = 60_000_000
    base = now_us() // minute * minute - 10 * minute
    ends = [base - 1, base, base + minute - 1, base + minute, base + 3 * minute, base + 4 * minute]
    for operation_id, end in zip(succeed(work, len(ends)), ends, strict=True):
        store.client.hset(store.keys.operation(operation_id), mapping={"et": end, "ct": end})
    await archivist.work()
    start, end = Timestamp(), Timestamp()
    start.FromMicroseconds(base)
    end.FromMicroseconds(base + 4 * minute)
    request = admin_pb2.GetOperationStatsRequest(start_time=start, end_time=end)

    by_minute = await servicer.GetOperationStats(request, None)
    request.step.FromSeconds(120)
    by_two = await servicer.GetOperationStats(request, None)

    assert [((one.start_time.ToMicroseconds() - base) // minute, one.count) for one in by_minute.stats] == [
        *((0, 2), (1, 1), (3, 1))
    ]
    assert sum(one.count for one in by_two.stats) == 4
    assert all(one.start_time.ToMicroseconds() % (2 * minute) == 0 for one in by_two.stats)


async def test_what_is_kept_too_briefly_for_the_archive_is_counted_while_it_is_kept(operations, archivist, work, took):
    """The store alone has it; what is archived beside it counts once."""
    took(succeed(work, 2), 0, 1, retention=60)
    succeed(work, 3)
    await archivist.work()

    (one,) = (await stats(OperationServicer(operations, archived_within=None))).values()

    assert one.count == 5


async def test_time_is_counted_from_when_an_operation_was_due(servicer, archivist, work, store):
    """A schedule_time that was later than the acceptance; a retry's due time does not move it."""
    (operation_id,) = succeed(work)
    key = store.keys.operation(operation_id)
    end = int(store.client.hget(key, "et"))
    second = 1_000_000
    store.client.hset(key, mapping={"ct": end - 100 * second, "sch": end - 5 * second, "start": end - 2 * second})
    await archivist.work()

    (one,) = (await stats(servicer)).values()

    assert (seconds(one.wait)["max"], seconds(one.total)["max"]) == (3, 5)


async def test_what_was_scheduled_remembers_for_when(work, store):
    """Also once it has been promoted."""
    due = now_us() + 3_600_000_000
    item = dataclasses.replace(work._acceptance("test.do", {}), due_us=due)

    store.run(store_calls.accept([item]))

    assert int(store.client.hget(store.keys.operation(item.record.id), "sch")) == due


async def test_statistics_of_too_many_are_refused(servicer, archivist, work, monkeypatch):
    """Before they are counted."""
    monkeypatch.setattr("chassis.archive_stats.STATS_LIMIT", 2)
    succeed(work, 3)
    await archivist.work()

    with pytest.raises(OutOfRange) as refused:
        await stats(servicer)
    assert refused.value.reason == "TOO_MANY_OPERATIONS"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"step": Duration(seconds=30)}, "step"),
        ({"step": Duration(seconds=-60)}, "step"),
        ({"start_time": Timestamp(seconds=10), "end_time": Timestamp(seconds=10)}, "start_time"),
        ({"start_time": Timestamp(seconds=0), "end_time": Timestamp(seconds=86_460)}, "step"),
        ({"start_time": Timestamp(seconds=-60), "end_time": Timestamp(seconds=0)}, "start_time"),
        ({"filter": "colour = red"}, "filter"),
        ({"end_time": Timestamp(seconds=2**63 - 1)}, "end_time"),
        ({"start_time": Timestamp(nanos=-1)}, "start_time"),
        ({"step": Duration(seconds=60 * 2**57)}, "step"),
    ],
)
async def test_bounds_of_statistics(servicer, options, field):
    """Bad input names the field."""
    with pytest.raises(InvalidArgument) as refused:
        await servicer.GetOperationStats(admin_pb2.GetOperationStatsRequest(**options), None)
    assert [violation.field for violation in refused.value.violations] == [field]


async def cancel(servicer, wanted, **options):
    request = admin_pb2.CancelOperationsRequest(filter=wanted, **options)
    answer = await servicer.CancelOperations(request, None)
    return answer.cancelled, answer.more


async def state_of(operations, operation_id):
    return ops.OperationState.Name(metadata_of(await operations.get(operation_id)).state).removeprefix(
        "OPERATION_STATE_"
    )


async def test_what_waits_and_what_runs_is_cancelled_by_filter(servicer, operations, work):
    """Waiting ones end at once, running ones are told, children go with their parent, the ended stay."""
    waiting, running, parent = work.accept(3, labels={"team": "sre"})
    (ended,) = work.fail(labels={"team": "sre"})
    (other,) = work.accept()
    work.begin(running)
    work.begin(parent)
    (child,) = work.accept(parent=f"operations/test/{parent}")

    assert await cancel(servicer, "labels.team = sre") == (3, False)

    states = {id_: await state_of(operations, id_) for id_ in (waiting, running, parent, child, ended, other)}
    assert states == {
        waiting: "CANCELLED",
        running: "RUNNING",
        parent: "RUNNING",
        child: "CANCELLED",
        ended: "FAILED",
        other: "QUEUED",
    }
    assert metadata_of(await operations.get(running)).cancel_requested
    assert await cancel(servicer, "labels.team = sre") == (0, False)


async def test_the_oldest_are_cancelled_first_and_the_next_call_goes_on(servicer, operations, work, monkeypatch):
    """`more` says that the limit left some, also of one instant and over several reads; running ones count once."""
    monkeypatch.setattr("chassis.store_sweeps.CHUNK", 3)
    old, new = work.accept(5), work.accept(4)
    work.begin(old[0])

    assert await cancel(servicer, "task:do", limit=5) == (5, True)
    assert [await state_of(operations, id_) for id_ in new] == ["QUEUED"] * 4
    assert await cancel(servicer, "task:do", limit=4) == (4, False)
    assert await cancel(servicer, "task:do") == (0, False)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"filter": ""}, "filter"),
        ({"filter": " "}, "filter"),
        ({"filter": "task ="}, "filter"),
        ({"filter": "a", "limit": -1}, "limit"),
        ({"filter": "a", "limit": 10_001}, "limit"),
    ],
)
async def test_bounds_of_cancelling(servicer, options, field):
    """An empty filter is refused: nobody means all operations."""
    with pytest.raises(InvalidArgument) as refused:
        await servicer.CancelOperations(admin_pb2.CancelOperationsRequest(**options), None)
    assert [violation.field for violation in refused.value.violations] == [field]
