"""`waybill up --autoscale`: a burst takes one worker up and back down, and every operation runs once."""

import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest
from chassis.testing.harness import Harness, ServiceUnderTest
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2_grpc

from tests import samples

pytestmark = pytest.mark.slow

#: In `make test-all`, and in `make chaos-stack`.
SHORT, LONG = 1_500, 5_000
MOST = 3
QUEUE = "metrics.ingest"


@pytest.fixture
def up(tmp_path):
    """The metrics service by `waybill up --autoscale`, with one worker at the start."""
    only_metrics = ServiceUnderTest("metrics", "metrics_service", roles=())
    with Harness(tmp_path, [only_metrics]) as harness:
        options = ["--only", "metrics", "--no-dashboard", "--json", "--state-dir", str(harness.state_dir)]
        scaling = ["--autoscale", "--min-workers", "1", "--max-workers", str(MOST), "--down-after", "3"]
        command = [sys.executable, "-m", "waybill_cli", "up", *options, *scaling]
        harness.up = harness.program("waybill up", command, ready_event="stack.ready")
        harness.up.start()
        yield harness


def burst(stack, metric, size):
    """Names of so many operations that were accepted while the queue was paused, and then let go at once."""
    queues = stack.stub("metrics", admin_pb2_grpc.QueueServiceStub)
    ingest = stack.stub("metrics", metrics_pb2_grpc.MetricsServiceStub).IngestSamples
    queues.PauseQueue(admin_pb2.PauseQueueRequest(queue=QUEUE), timeout=20)
    with ThreadPoolExecutor(8) as pool:
        requests = (samples.batch(metric, 1.0, request_id=f"burst-{number}") for number in range(size))
        names = [operation.name for operation in pool.map(lambda request: ingest(request, timeout=60), requests)]
    queues.ResumeQueue(admin_pb2.ResumeQueueRequest(queue=QUEUE), timeout=20)
    return names


def ends_of(stack, names):
    """How often each of these began and succeeded, by the event log, once all of them have."""
    log = stack.stub("metrics", events_pb2_grpc.EventServiceStub)
    request = events_pb2.SubscribeRequest(cursor="0-0", types=["waybill.metrics.operation.*"])
    waiting, counts = set(names), defaultdict(Counter)
    stream = log.Subscribe(request, timeout=300)
    for answer in stream:
        counts[answer.event.subject][answer.event.type.rpartition(".")[2]] += 1
        if answer.event.type.endswith(".succeeded"):
            waiting.discard(answer.event.subject)
        if not waiting:
            stream.cancel()
            return counts
    raise AssertionError(f"{len(waiting)} operations have not ended")


def workers_of(stack):
    return stack.stub("metrics", admin_pb2_grpc.WorkerServiceStub).ListWorkers(admin_pb2.ListWorkersRequest()).workers


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SHORT, id="short", marks=pytest.mark.thorough),
        pytest.param(LONG, id="long", marks=pytest.mark.chaos),
    ],
)
def test_a_burst_takes_one_worker_up_and_back_down(up, size):
    """Workers are added, every operation runs once, and what was added is drained again."""
    assert len(workers_of(up)) == 1
    names = burst(up, "burst", size)
    counts = ends_of(up, names)

    up.up.wait_for_line("-> 1 workers")
    started = {line["process"] for line in up.up.events if line.get("state") == "starting" and is_worker(line)}
    ended = endings(up.up, len(started) - 1)

    assert 2 <= len(started) <= MOST
    assert len(ended) == len(started) - 1
    assert len(set(names)) == size
    assert {name: counts[name] for name in names if not ran_once(counts[name])} == {}
    assert samples.counted_by(up.stub("metrics", metrics_pb2_grpc.MetricsServiceStub), "burst") == size
    assert len(workers_of(up)) == 1
    assert not [line for line in up.up.events if line.get("event") == "process.died"]
    assert up.up.stop(timeout=120) == 0


def ran_once(befell):
    """It succeeded once; each attempt but the last failed by itself, as when SQLite is busy for too long."""
    return befell["accepted"] == befell["succeeded"] == 1 and befell["began"] == 1 + befell["retried"]


def endings(process, count):
    """The workers that have ended, once there are so many."""
    ended, seen = set(), 0
    while len(ended) < count:
        line = process.wait_for_event("process.changed", state="ended", since=seen, timeout=120)
        seen = process.events.index(line) + 1
        ended.add(line["process"])
    return {name for name in ended if name.startswith("metrics worker")}


def is_worker(line):
    return line["process"].startswith("metrics worker")
