"""Queues and workers, as operators see and steer them."""

import json
import time
from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.admin_rpc import QueueServicer, WorkerServicer, node_name
from chassis.contract import contract_hash
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from chassis.plain_messages import take
from waybill.admin.v1 import admin_pb2
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.anyio


@pytest.fixture
def app():
    queues = [SimpleNamespace(name="test.q"), SimpleNamespace(name="test.empty")]
    control = SimpleNamespace(sent=[], answer=None)

    def broadcast(command, destination, **options):
        control.sent.append((command, destination, options.get("arguments")))
        return [{destination[0]: control.answer}] if control.answer and options.get("reply") else []

    control.broadcast = broadcast
    return SimpleNamespace(service="test", queues=queues, control=control, operation_tasks={})


@pytest.fixture
async def queues(app, async_store):
    return QueueServicer(app, async_store)


@pytest.fixture
async def workers(app, async_store):
    return WorkerServicer(app, async_store)


async def facts(queues, name="test.q"):
    listed = await queues.ListQueues(admin_pb2.ListQueuesRequest(), None)
    return next(queue for queue in listed.queues if queue.name == name)


def heartbeat(store, name="test@h:1", age_seconds=0, **more):
    facts = {
        "host": "h",
        "pid": 1,
        "pool": "threads",
        "concurrency": 4,
        "queues": ["test.q"],
        "tasks": ["test.do"],
        "operations": ["o1"],
        "memory_bytes": 5,
        "version": "1",
        "start_us": 7,
        "draining": False,
        "heartbeat_us": time.time_ns() // 1000 - age_seconds * 10**6,
    }
    store.client.hset(store.keys.named("workers"), name, json.dumps(facts | more))


async def test_a_queue_says_what_waits_and_what_runs(queues, work, store):
    """Due by priority, delivered, not yet due, and how old the oldest is."""
    work.accept(5)
    (running,) = work.accept(1)
    token = work.begin(running)
    work.settle(running, "RETRIED", token=token)

    waits_for_retry = await facts(queues)
    store.run(store_calls.fetch(2, ["test.q"], ["test.do"], session="y"))
    after = await facts(queues)

    assert waits_for_retry.in_flight == 5
    assert waits_for_retry.depth == 0
    assert after.waiting + after.depth + after.in_flight == 6
    empty = await facts(queues, "test.empty")
    assert (empty.depth, empty.in_flight, empty.HasField("oldest_age")) == (0, 0, False)


async def test_a_queue_says_what_is_parked_because_no_worker_can_run_it(queues, work, store):
    """Operations of unknown tasks by their own queue, and messages that could not be read: neither counts as depth."""
    for queue, count in (("test.q", 2), ("test.empty", 1)):
        work.accept(count, task="test.unknown", queue=queue)
    store.run(store_calls.fetch(3, ["test.q", "test.empty"], ["test.do"], session="y"))
    key = store.keys.named("celery:test.q")
    store.client.lpush(key, b"garbage", b"more of it", b"and more")
    take(store, "test.q", key, {"test.plain"})

    listed = [await facts(queues, name) for name in ("test.q", "test.empty")]

    assert [(queue.parked_operations, queue.parked_messages) for queue in listed] == [(2, 3), (1, 0)]
    assert [queue.depth for queue in listed] == [0, 0]


async def test_depth_is_told_by_priority_and_age(queues, work):
    """Only what is due counts as depth."""
    work.accept(2)
    work.accept(1, priority=ops.PRIORITY_HIGH)

    queue = await facts(queues)

    assert (queue.depth, queue.depth_low, queue.depth_normal, queue.depth_high) == (3, 0, 2, 1)
    assert 0 <= queue.oldest_age.ToSeconds() < 60


async def test_a_paused_queue_keeps_what_it_has_and_takes_more(queues, work, store):
    """Nothing of it is delivered until it is resumed; both calls answer with the queue and may be repeated."""
    work.accept(2)
    for _ in range(2):
        paused = await queues.PauseQueue(admin_pb2.PauseQueueRequest(queue="test.q"), None)
    work.accept(1)
    assert (paused.name, paused.paused) == ("test.q", True)
    assert store.run(store_calls.fetch(9, ["test.q"], ["test.do"], session="x")).deliveries == []

    resumed = await queues.ResumeQueue(admin_pb2.ResumeQueueRequest(queue="test.q"), None)

    assert (resumed.paused, resumed.depth) == (False, 3)
    assert len(store.run(store_calls.fetch(9, ["test.q"], ["test.do"], session="y")).deliveries) == 3


async def test_a_purge_cancels_what_waits_and_leaves_what_runs(queues, work, store):
    """Settled as CANCELLED, not dropped; more than one chunk too."""
    (running,) = work.accept(1)
    work.begin(running)
    ids = work.accept(600) + work.accept(3, priority=ops.PRIORITY_LOW)

    answer = await queues.PurgeQueue(admin_pb2.PurgeQueueRequest(queue="test.q"), None)

    assert answer.cancelled == 603
    states = {store.client.hget(store.keys.operation(id_), "st") for id_ in ids}
    assert states == {b"7"}
    assert store.client.hget(store.keys.operation(running), "st") == b"3"
    assert (await queues.PurgeQueue(admin_pb2.PurgeQueueRequest(queue="test.q"), None)).cancelled == 0


async def test_rates_are_of_the_last_minute(queues, work, store):
    """Accepted and settled per second, from the buckets that have ended."""
    bucket = time.time_ns() // 10**9 // 10
    store.client.hset(store.keys.named(f"rate:{bucket - 1}"), mapping={"a:test.q": 30, "s:test.q": 12, "a:other": 9})
    store.client.hset(store.keys.named(f"rate:{bucket - 20}"), mapping={"a:test.q": 999})

    queue = await facts(queues)

    assert queue.accept_rate == pytest.approx(0.5, abs=0.2)
    assert queue.settle_rate == pytest.approx(0.2, abs=0.1)


async def test_a_queue_that_there_is_not_is_not_found(queues):
    """And one that was not named is bad input; nothing is made up."""
    for call, request in (
        (queues.PauseQueue, admin_pb2.PauseQueueRequest),
        (queues.ResumeQueue, admin_pb2.ResumeQueueRequest),
        (queues.PurgeQueue, admin_pb2.PurgeQueueRequest),
    ):
        with pytest.raises(NotFound) as missing:
            await call(request(queue="nowhere"), None)
        assert missing.value.reason == "QUEUE_NOT_FOUND"
        with pytest.raises(InvalidArgument):
            await call(request(), None)


async def test_workers_are_those_that_were_heard_of(workers, store):
    """What a heartbeat says; one that is silent for half a minute is shown no more and forgotten."""
    heartbeat(store, "test@h:1")
    heartbeat(store, "test@h:2", age_seconds=31)

    listed = await workers.ListWorkers(admin_pb2.ListWorkersRequest(), None)

    (worker,) = listed.workers
    assert (worker.name, worker.pool, worker.concurrency) == ("test@h:1", "threads", 4)
    assert list(worker.operations) == ["operations/test/o1"]
    assert store.client.hkeys(store.keys.named("workers")) == [b"test@h:1"]


async def test_a_worker_of_another_contract_than_the_gateways_is_told_apart(workers, app, store):
    """By the hash in its heartbeat; one that is too old to tell has another contract too."""
    heartbeat(store, "test@h:1", contract=contract_hash(app))
    heartbeat(store, "test@h:2", contract="000000000000")
    heartbeat(store, "test@h:3")

    listed = await workers.ListWorkers(admin_pb2.ListWorkersRequest(), None)

    assert listed.gateway_contract_hash == contract_hash(app)
    told = [(worker.contract_hash, worker.contract_differs) for worker in listed.workers]
    assert told == [(contract_hash(app), False), ("000000000000", True), ("", True)]


async def test_draining_a_worker_tells_that_one(workers, app, store):
    """By Celery's remote control, under the node's name; others are not told."""
    heartbeat(store, "test@h:41", pid=41)
    heartbeat(store, "test@h:42", pid=42)

    worker = await workers.DrainWorker(admin_pb2.DrainWorkerRequest(worker="test@h:42"), None)

    assert worker.draining
    assert app.control.sent == [("shutdown", [node_name("test", worker)], None)]
    assert node_name("test", worker) == "test-42@h"
    with pytest.raises(NotFound):
        await workers.DrainWorker(admin_pb2.DrainWorkerRequest(worker="test@h:43"), None)


def resizing(workers, name="test@h:42", concurrency=7):
    return workers.SetConcurrency(admin_pb2.SetConcurrencyRequest(worker=name, concurrency=concurrency), None)


async def test_setting_the_concurrency_tells_that_worker_and_waits_for_its_answer(workers, app, store):
    """The answer has the new figure."""
    heartbeat(store, "test@h:42", pid=42)
    app.control.answer = {"ok": "the pool has 7"}

    worker = await resizing(workers)

    assert worker.concurrency == 7
    assert app.control.sent == [("set_concurrency", ["test-42@h"], {"concurrency": 7})]


async def test_a_worker_that_does_not_answer_is_unavailable(workers, store):
    """Whether it heard is unknown; the client may ask again."""
    heartbeat(store, "test@h:42", pid=42)

    with pytest.raises(Unavailable) as refused:
        await resizing(workers)

    assert (refused.value.reason, refused.value.retry_after is not None) == ("WORKER_SILENT", True)


@pytest.mark.parametrize(
    ("facts", "reason"), [({"pool": "solo"}, "POOL_NOT_RESIZABLE"), ({"draining": True}, "WORKER_DRAINING")]
)
async def test_a_pool_that_cannot_change_is_a_failed_precondition(workers, app, store, facts, reason):
    """And nobody is told anything; so is one that says so itself."""
    heartbeat(store, "test@h:42", pid=42, **facts)
    heartbeat(store, "test@h:43", pid=43)
    with pytest.raises(FailedPrecondition) as refused:
        await resizing(workers)
    assert (refused.value.reason, app.control.sent) == (reason, [])

    app.control.answer = {"error": "the pool cannot have 7"}
    with pytest.raises(FailedPrecondition, match="cannot have 7"):
        await resizing(workers, "test@h:43")


@pytest.mark.parametrize("concurrency", [-1, 0, 1_001])
async def test_a_concurrency_out_of_bounds_is_bad_input(workers, store, concurrency):
    """1 to 1,000; a worker that is not heard of any more is not found, whatever is asked of it."""
    heartbeat(store, "test@h:42", pid=42, age_seconds=31)

    with pytest.raises(InvalidArgument):
        await resizing(workers, concurrency=concurrency)
    with pytest.raises(InvalidArgument):
        await resizing(workers, name="")
    with pytest.raises(NotFound):
        await resizing(workers)
