"""What KEDA is told: whether there is anything to do, and how much in terms of workers."""

import json
import math
import time
from types import SimpleNamespace

import pytest
from chassis.admin_rpc import QueueServicer
from chassis.errors import InvalidArgument
from chassis.scaling import ScalerServicer
from externalscaler import externalscaler_pb2 as scaler
from waybill.admin.v1 import admin_pb2

pytestmark = pytest.mark.anyio


@pytest.fixture
def app():
    queues = [SimpleNamespace(name="test.q"), SimpleNamespace(name="test.empty")]
    return SimpleNamespace(service="test", queues=queues, concurrency=4)


@pytest.fixture
async def queues(app, async_store):
    return QueueServicer(app, async_store)


@pytest.fixture
async def scaling(app, async_store):
    return ScalerServicer(app, async_store)


def worker(store, pid, *, queues=("test.q",), draining=False, concurrency=2):
    """A worker that was heard of just now."""
    facts = {
        "host": "h",
        "pid": pid,
        "pool": "threads",
        "concurrency": concurrency,
        "queues": queues,
        "tasks": [],
        "operations": [],
        "memory_bytes": 5,
        "version": "1",
        "draining": draining,
        "heartbeat_us": time.time_ns() // 1000,
    }
    store.client.hset(store.keys.named("workers"), f"test@h:{pid}", json.dumps(facts))


def ages(store):
    """The oldest operation has waited for years."""
    key = store.keys.queue("test.q", 2)
    store.client.zadd(key, {store.client.zrange(key, 0, 0)[0]: 1})


async def metric(scaling, name="operations", **metadata):
    reference = scaler.ScaledObjectRef(scalerMetadata=metadata)
    answer = await scaling.GetMetrics(scaler.GetMetricsRequest(scaledObjectRef=reference, metricName=name), None)
    return answer.metricValues[0].metricValue


async def test_the_scaler_counts_what_is_due_and_what_runs(scaling, queues, work):
    """One queue or all; a paused queue's depth counts as none, its running attempts still do."""
    work.accept(4)
    (running,) = work.accept(1)

    assert await metric(scaling) == await metric(scaling, queue="test.q") == 5
    assert await metric(scaling, queue="test.empty") == 0
    work.begin(running)
    assert await metric(scaling) == 5
    await queues.PauseQueue(admin_pb2.PauseQueueRequest(queue="test.q"), None)
    work.accept(3)
    assert await metric(scaling) == 5


async def test_the_scaler_is_active_while_there_is_work(scaling, work):
    """Zero workers are enough for nothing."""
    reference = scaler.ScaledObjectRef()
    assert not (await scaling.IsActive(reference, None)).result

    work.accept(1)

    assert (await scaling.IsActive(reference, None)).result
    async for answer in scaling.StreamIsActive(reference, None):
        assert answer.result
        break


async def asked_for(scaling, **metadata):
    """The workers that each metric asks for, as a HorizontalPodAutoscaler works it out."""
    reference = scaler.ScaledObjectRef(scalerMetadata=metadata)
    specs = (await scaling.GetMetricSpec(reference, None)).metricSpecs
    values = {}
    for spec in specs:
        request = scaler.GetMetricsRequest(scaledObjectRef=reference, metricName=spec.metricName)
        (value,) = (await scaling.GetMetrics(request, None)).metricValues
        assert (value.metricName, value.metricValue) == (spec.metricName, round(value.metricValueFloat))
        values[spec.metricName] = math.ceil(value.metricValueFloat / spec.targetSizeFloat)
    return values


async def test_each_metric_asks_for_workers(scaling, work, store):
    """By how much there is to do, by the age of the oldest, by what runs."""
    for pid in (1, 2):
        worker(store, pid)
    work.accept(9)
    ages(store)

    assert await asked_for(scaling, target="3") == {"operations": 3, "oldest_age": 4, "running": 0}


async def test_workers_that_drain_or_take_from_other_queues_do_not_count(scaling, work, store):
    """What two slots run keeps one worker of two, whoever else there is."""
    worker(store, 1)
    worker(store, 2, draining=True)
    worker(store, 3, queues=("test.empty",))
    (first, second) = work.accept(2)
    work.begin(first)
    work.begin(second)

    assert (await asked_for(scaling))["running"] == 2
    assert (await asked_for(scaling, queue="test.q"))["running"] == 1
    assert (await asked_for(scaling, queue="test.empty"))["running"] == 0


async def test_a_paused_queue_asks_for_nobody(scaling, queues, work, store):
    """Neither by its depth nor by its age, and it is no reason to be active."""
    work.accept(5)
    ages(store)
    await queues.PauseQueue(admin_pb2.PauseQueueRequest(queue="test.q"), None)

    assert await asked_for(scaling) == {"operations": 0, "oldest_age": 0, "running": 0}
    assert not (await scaling.IsActive(scaler.ScaledObjectRef(), None)).result


async def test_targets_are_what_the_scaler_was_told(scaling):
    """20 operations a worker and 30 s unless set; without a target for age there is no such metric."""
    targets = []
    for metadata in ({}, {"target": "7", "targetAge": "5"}, {"targetAge": "0"}):
        spec = await scaling.GetMetricSpec(scaler.ScaledObjectRef(scalerMetadata=metadata), None)
        targets.append({one.metricName: one.targetSize for one in spec.metricSpecs})

    assert targets == [
        {"operations": 20, "running": 1, "oldest_age": 30},
        {"operations": 7, "running": 1, "oldest_age": 5},
        {"operations": 20, "running": 1},
    ]


async def test_without_a_name_all_metrics_are_told(scaling):
    """For who looks by hand; KEDA names one."""
    answer = await scaling.GetMetrics(scaler.GetMetricsRequest(), None)

    assert [value.metricName for value in answer.metricValues] == ["operations", "running", "oldest_age"]


@pytest.mark.parametrize(
    "metadata",
    [{"target": "0"}, {"target": "-1"}, {"target": "x"}, {"target": "1.5"}, {"targetAge": "-1"}, {"targetAge": ""}],
)
async def test_a_target_that_is_none_is_bad_input(scaling, metadata):
    """So is a queue or a metric that there is not."""
    with pytest.raises(InvalidArgument):
        await scaling.GetMetricSpec(scaler.ScaledObjectRef(scalerMetadata=metadata), None)
    with pytest.raises(InvalidArgument):
        await metric(scaling, queue="nowhere")
    with pytest.raises(InvalidArgument):
        await metric(scaling, "made_up")
