"""A worker and a gateway through an outage of Valkey: nothing that was accepted is lost, and all goes on by itself."""

import contextlib
import os
import re
import signal
import threading
import time
from contextlib import contextmanager

import grpc
import pytest
import redis
from chassis import statuses
from chassis.errors import Unavailable
from grpc_health.v1 import health_pb2
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.slow

CONSUMING_AGAIN_SECONDS = 15


class Load(threading.Thread):
    """Submits until it is told to stop; keeps what was accepted and how refusals read."""

    def __init__(self, submit):
        super().__init__(daemon=True)
        self._submit = submit
        self._stop_now = threading.Event()
        self._changed = threading.Condition()
        self.accepted, self.refusals = [], []

    def run(self):
        number = 0
        while not self._stop_now.wait(0.005):
            number += 1
            try:
                self._note(self.accepted, self._submit("sample.echo", {"number": number}))
            except grpc.RpcError as error:
                self._note(self.refusals, statuses.from_status(statuses.rpc_status(error)))

    def wait_until(self, predicate):
        with self._changed:
            assert self._changed.wait_for(predicate, 20), (len(self.accepted), self.refusals[-3:])

    def stop(self):
        self._stop_now.set()
        self.join()

    def _note(self, where, what):
        with self._changed:
            where.append(what)
            self._changed.notify_all()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_consuming_goes_on_by_itself_after_an_outage_under_load(stack, submit, end):
    """What was accepted before, during and after ends; refusals are UNAVAILABLE with RetryInfo; nobody is restarted."""
    pids = [process.pid for process in stack.processes]
    load = Load(submit)
    load.start()
    load.wait_until(lambda: len(load.accepted) >= 20)
    getattr(stack.valkey, end)()
    stack.wait_for_health("sample", health_pb2.HealthCheckResponse.NOT_SERVING)
    load.wait_until(lambda: load.refusals)

    stack.valkey.start()
    back, before = time.monotonic(), len(load.accepted)
    stack.wait_for_health("sample", health_pb2.HealthCheckResponse.SERVING)
    load.wait_until(lambda: len(load.accepted) > before)
    load.stop()

    stack.finished(load.accepted[-1], timeout=CONSUMING_AGAIN_SECONDS)
    assert time.monotonic() - back < CONSUMING_AGAIN_SECONDS
    for operation in load.accepted:
        assert stack.finished(operation)[1].state == ops.OPERATION_STATE_SUCCEEDED
    assert {type(error) for error in load.refusals} == {Unavailable}
    assert all(error.retry_after for error in load.refusals)
    assert [process.pid for process in stack.processes if process.running] == pids


def test_a_worker_looks_every_second_whether_the_store_is_back(stack):
    """However long it has been away: Celery would wait up to half a minute more."""
    worker = stack.process("sample", "worker")
    stack.valkey.stop()
    mark, pauses = worker.mark(), []
    while len(pauses) < 5:
        said = worker.wait_for_line("Trying again in", since=mark)
        mark = worker.mark()
        pauses.append(float(re.search(r"Trying again in ([\d.]+) second", str(said)).group(1)))
    stack.valkey.start()
    stack.wait_for_health("sample", health_pb2.HealthCheckResponse.SERVING)

    assert max(pauses) <= 1


def test_an_attempt_that_runs_through_an_outage_settles_after_it(stack, submit, wait_for_progress, tmp_path):
    """Its result is kept until the store is back; leases get a full term, so it is not attempted twice."""
    release = tmp_path / "release"
    operation = submit("sample.hold", {"until": str(release)})
    worker = stack.process("sample", "worker")
    wait_for_progress(operation)

    stack.valkey.kill()
    mark = worker.mark()
    release.touch()
    worker.wait_for_event("store.unreachable", since=mark)
    stack.valkey.start()

    _, metadata = stack.finished(operation, timeout=30)
    assert metadata.state == ops.OPERATION_STATE_SUCCEEDED
    assert [attempt.number for attempt in metadata.attempts] == [1]


def test_the_log_of_spans_goes_on_after_an_outage(stack, submit):
    """What was accepted before it is a whole trace after it."""
    before = submit("sample.echo")
    stack.valkey.restart()
    stack.wait_for_health("sample", health_pb2.HealthCheckResponse.SERVING)
    after = submit("sample.echo")

    for operation in (before, after):
        _, metadata = stack.finished(operation)
        stack.collector.wait_for_trace(
            metadata.trace_id, lambda spans: {"CLIENT", "CONSUMER", "PRODUCER", "SERVER"} <= {s.kind for s in spans}
        )


@contextmanager
def frozen(valkey):
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


class Patience(threading.Thread):
    """Asks a store three times: while it does not answer, until three questions have timed out."""

    def __init__(self, store):
        super().__init__(daemon=True)
        self._client = store.client

    def run(self):
        for _ in range(3):
            with contextlib.suppress(redis.TimeoutError):
                self._client.ping()


@pytest.mark.parametrize(
    "pool", ["threads", *(pytest.param(pool, marks=pytest.mark.thorough) for pool in ("prefork", "solo"))]
)
def test_an_idle_worker_that_is_told_to_end_waits_for_no_frozen_store(harness, sample, pool):
    """It ends while the store is still frozen, and before a client has waited for three answers in vain."""
    stack = harness([sample(pool, 2)])
    stack.start()
    worker, patience = stack.process("sample", "worker"), Patience(stack.store("sample"))

    with frozen(stack.valkey):
        worker.terminate()
        patience.start()
        code = worker.wait()
        waited_in_vain = not patience.is_alive()
    patience.join()

    assert (code, waited_in_vain) == (0, False)
