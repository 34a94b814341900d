"""A store that is full: new work is refused before and then, what is there comes to its end, and it recovers by itself.

FAULTS experiment 12, in the engine's form.
"""

import asyncio
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import grpc
import pytest
from chassis import archive_calls, statuses, store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.admission import MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS, Admission, pause_seconds, share_used
from chassis.embedded import EmbeddedValkey
from chassis.errors import ResourceExhausted
from chassis.operations import Operations
from chassis.retries import RetryPolicy
from chassis.store import AsyncStore, Store
from chassis.testing.harness import Harness, ServiceUnderTest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.exceptions import OutOfMemoryError
from sample_service.gateway import SampleStub
from sample_service.tasks import struct
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

PAYLOAD = "x" * 8_000
ROOM_BYTES = 4 << 20
TASK = SimpleNamespace(
    name="sample.echo", policy=RetryPolicy(), queue_name="sample.default", default_priority=2, retention=None
)


@pytest.fixture
def small(tmp_path):
    """A Valkey with room for some hundred operations."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        store = Store.connect("sample", server.url)
        used = store.client.info("memory")["used_memory"]
        store.client.config_set("maxmemory", used + ROOM_BYTES)
        yield server
        store.close()


@pytest.fixture
def small_store(small):
    store = Store.connect("sample", small.url)
    yield store
    store.close()


@pytest.fixture
async def operations(small):
    store = AsyncStore.connect("sample", small.url)
    yield Operations(
        store,
        SimpleNamespace(service="sample", queue_bound=100_000),
        admission=Admission(store, high_water=0.5),
    )
    await store.close()


def item(parent=""):
    submission = Submission(TASK, struct(word=PAYLOAD), parent=parent)
    return acceptance(submission, Provenance("", "S/M"))


def fill(store):
    """Accept until the server refuses, and lower the limit by what a small write might still find; the ids."""
    ids = []
    while True:
        one = item()
        try:
            store.run(store_calls.accept([one]))
        except OutOfMemoryError:
            store.client.config_set("maxmemory", store.client.info("memory")["used_memory"] - (256 << 10))
            return ids
        ids.append(one.record.id)


@pytest.mark.parametrize(
    ("memory", "share"),
    [
        ({"used_memory": 50, "maxmemory": 0}, 0.0),
        ({"used_memory": 50, "maxmemory": 100}, 0.5),
        ({"used_memory": 150, "maxmemory": 100, "mem_not_counted_for_evict": 60}, 0.9),
    ],
)
def test_memory_counts_as_the_server_counts_it(memory, share):
    """What it leaves out when it refuses writes is left out; without a limit nothing is ever full."""
    assert share_used(memory) == share


@pytest.mark.parametrize(
    ("room", "pace", "pause"),
    [
        (0.5, 0.0, MAX_PAUSE_SECONDS),
        (0.5, -1.0, MAX_PAUSE_SECONDS),
        (0.5, 0.1, MAX_PAUSE_SECONDS),
        (0.2, 1.0, 0.1),
        (0.001, 1.0, MIN_PAUSE_SECONDS),
        (-0.1, 1.0, MAX_PAUSE_SECONDS),
    ],
)
def test_the_faster_it_fills_the_sooner_it_is_looked_at_again(room, pace, pause):
    """Twice before the mark is reached at the pace that was seen; nothing is hurried that does not grow or is full."""
    assert pause_seconds(room, pace) == pytest.approx(pause)


@pytest.mark.anyio
async def test_new_work_is_refused_above_the_high_water_mark_and_admitted_below(operations, small_store):
    """RESOURCE_EXHAUSTED, STORE_FULL, RetryInfo, for one and for each of many; by what was seen last."""
    request = reports_pb2.RenderReportRequest(title="t")
    assert (await operations.accept(TASK, request)).name
    fill(small_store)
    await operations.admission.look()

    with pytest.raises(ResourceExhausted) as refused:
        await operations.accept(TASK, request)
    statuses_of_many = await operations.accept_many([Submission(TASK, request)] * 2, method="m")

    assert (refused.value.reason, bool(refused.value.retry_after)) == ("STORE_FULL", True)
    assert [statuses.reason_of(status) for status in statuses_of_many] == ["STORE_FULL"] * 2
    small_store.client.flushall(asynchronous=False)
    async with asyncio.timeout(20):
        while operations.admission.refuses:
            await operations.admission.look()
    assert (await operations.accept(TASK, request)).name


def drain(store, ids):
    """Every step of a worker, against a full store; the ids that ended."""
    ended, number = [], 0
    while True:
        number += 1
        call = store_calls.fetch(20, ["sample.default"], ["sample.echo"], session="s", number=number, heard=number - 1)
        fetched = store.run(call)
        if not fetched.deliveries:
            return ended
        held = [(delivery.operation_id, delivery.delivery) for delivery in fetched.deliveries]
        if number == 1:
            assert store.run(store_calls.release(held, lost=False)) == len(held)
            continue
        assert set(store.run(store_calls.renew(held))) == {store_calls.RENEWED}
        for position, (operation_id, delivery) in enumerate(held):
            token, span = f"t{operation_id}", (number * 100 + position).to_bytes(8, "big")
            begun = store.run(store_calls.begin(operation_id, delivery, worker="w", token=token, span=span))
            assert isinstance(begun, store_calls.Begun)
            assert store.run(store_calls.progress(operation_id, token, 50, "half")) == store_calls.RENEWED
            outcome = ops.ATTEMPT_OUTCOME_FAILED if position == 0 else ops.ATTEMPT_OUTCOME_SUCCEEDED
            error = store_calls.AttemptError(14, "it broke", "BROKEN") if position == 0 else None
            settlement = store_calls.Settlement(operation_id, token, outcome, result=b"r" * 2_000, error=error)
            assert store.run(store_calls.settle([settlement])) == [5 if error is None else 6]
            ended.append(operation_id)


def test_a_full_store_refuses_work_and_finishes_what_it_has(small_store):
    """Everything but acceptance goes on beyond the limit; when its time is over it leaves, and there is room again."""
    store = small_store
    ids = fill(store)
    with pytest.raises(OutOfMemoryError):
        store.client.set("anything", "1")

    cancelled, *rest = ids
    assert [answer.verdict for answer in store.run(store_calls.cancel([cancelled]))] == ["cancelled"]
    assert sorted(drain(store, rest)) == sorted(rest)
    assert store.run(store_calls.publish([("e1", "waybill.sample.a", b"1")])) == [True]
    assert store.run(store_calls.write("HSET", "workers", "w", "{}")) == 1
    assert store.run(store_calls.housekeeping(interval=timedelta(milliseconds=1))) is not None
    tail = timedelta(microseconds=1)
    (letter,) = store.client.zrange(store.keys.named("dead"), 0, 0)
    assert store.run(archive_calls.discard([letter.decode()])) == ["discarded"]
    while ended := store.run(archive_calls.unarchived("a", tail=tail, limit=100)):
        assert store.run(archive_calls.archived(ended, tail=tail)) == len(ended)
    with pytest.raises(OutOfMemoryError):
        store.run(store_calls.accept([item()]))

    forgotten = 0
    while batch := store.run(archive_calls.retire(100)):
        forgotten += batch
    assert forgotten == len(ids)
    assert [verdict.verdict for verdict in store.run(store_calls.accept([item()]))] == ["accepted"]


def test_a_repeated_request_is_answered_by_a_full_store(small_store):
    """What was accepted is not refused afterwards."""
    submission = Submission(TASK, struct(word="w"), request_id="r")
    first, again = (acceptance(submission, Provenance("", "S/M")) for _ in range(2))
    small_store.run(store_calls.accept([first]))
    fill(small_store)

    assert [verdict.verdict for verdict in small_store.run(store_calls.accept([again]))] == ["same"]


def refusal(submit):
    """Submit once; None when it was accepted, else the refusal's reason."""
    try:
        submit()
    except grpc.RpcError as error:
        status = statuses.rpc_status(error)
        exhausted = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and statuses.retry_delay(status)
        return statuses.reason_of(status) if exhausted else str(error)
    return None


def submit_until(stub, reason, task="sample.echo"):
    """The operations that were accepted until a refusal of this reason, with its RetryInfo."""
    accepted = []
    request = struct(task=task, payload={"word": PAYLOAD}, request_id="")
    while (found := refusal(lambda: accepted.append(stub.Submit(request)))) is None:
        pass
    assert found == reason
    return accepted


@pytest.mark.slow
def test_a_backlog_in_a_full_store_drains_and_work_is_admitted_again(tmp_path, small, sample):
    """Refused before it is full and when it is; with workers all of it succeeds, and nobody has to do anything."""
    service = sample("threads", 4)
    environment = {"WAYBILL_LEASE_SECONDS": "2", "WAYBILL_TAIL_SECONDS": "1"}
    with Harness(tmp_path / "harness", [service], environment=environment, valkey=small) as stack:
        stack.add("sample", "gateway").start()
        stack.wait_until_serving("sample")
        stub, store = stack.stub("sample", SampleStub), stack.store("sample")

        accepted = [operation.name for operation in submit_until(stub, "STORE_FULL")]
        accepted += [f"operations/sample/{operation_id}" for operation_id in fill(store)]
        assert len(accepted) > 100
        submit_until(stub, "STORE_FULL")
        health = stack.stub("sample", health_pb2_grpc.HealthStub)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING

        stack.add("sample", "worker").start()
        for name in accepted:
            assert stack.finished(name, timeout=60)[1].state == ops.OPERATION_STATE_SUCCEEDED
        workers = stack.stub("sample", admin_pb2_grpc.WorkerServiceStub)
        assert len(workers.ListWorkers(admin_pb2.ListWorkersRequest(service="sample")).workers) == 1

        until, pause, again = time.monotonic() + 60, threading.Event(), []
        request = struct(task="sample.echo", payload={"word": "again"}, request_id="")
        while found := refusal(lambda: again.append(stub.Submit(request))):
            assert (found, time.monotonic() < until) == ("STORE_FULL", True)
            pause.wait(0.2)
        assert stack.finished(again[0])[1].state == ops.OPERATION_STATE_SUCCEEDED
        assert stack.finished(accepted[0])[1].state == ops.OPERATION_STATE_SUCCEEDED


@pytest.mark.slow
def test_a_full_queue_refuses_and_the_others_do_not(tmp_path, valkey, sample):
    """At WAYBILL_QUEUE_BOUND due operations; it admits again when a worker has taken some."""
    given = sample("threads", 2)
    service = ServiceUnderTest(given.name, given.package, environment=given.environment)
    with Harness(tmp_path, [service], environment={"WAYBILL_QUEUE_BOUND": "3"}, valkey=valkey) as stack:
        stack.add("sample", "gateway").start()
        stack.wait_until_serving("sample")
        stub = stack.stub("sample", SampleStub)

        accepted = submit_until(stub, "QUEUE_FULL")
        assert len(accepted) == 3
        assert len(submit_until(stub, "QUEUE_FULL", "sample.bulk_echo")) == 3

        stack.add("sample", "worker").start()
        for operation in accepted:
            stack.finished(operation)
        assert submit_until(stub, "QUEUE_FULL")
