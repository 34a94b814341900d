"""Flower, as it comes, against a service's broker: it switches the events on and shows workers and tasks."""

import json
import sys
import time
import urllib.request

import pytest
from chassis.testing.harness import LOOPBACK, quiet_port
from google.longrunning import operations_pb2
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.slow

#: What Flower calls the state of a task that ended as the operation did.
ENDINGS = {
    "sample.echo": "SUCCESS",
    "sample.fail": "FAILURE",
    "sample.flaky": "SUCCESS",
    "sample.hold": "REVOKED",
}


@pytest.fixture(scope="module")
def flower(stack):
    """`flower("api/tasks")`: what it answers; running, and listening to events."""
    port = quiet_port()
    command = [sys.executable, "-m", "celery", "-A", "sample_service.tasks:app", "flower"]
    process = stack.program(
        "flower",
        [*command, f"--address={LOOPBACK}", f"--port={port}"],
        environment={**stack.services["sample"].environment, "FLOWER_UNAUTHENTICATED_API": "true"},
    )
    process.start()
    process.wait_for_line("Visit me at", timeout=60)

    def ask(path, method="GET"):
        request = urllib.request.Request(f"http://{LOOPBACK}:{port}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    yield ask
    process.end()
    stack.processes.remove(process)


def until(holds, what, timeout=90.0):
    """The first true value: Flower gives no signal of what it has heard."""
    end = time.monotonic() + timeout
    while not (value := holds()):
        assert time.monotonic() < end, what
    return value


def test_workers_and_tasks_are_shown(stack, flower, submit, wait_for_progress):
    """Received, started, succeeded, failed, retried and revoked, with the names of tasks, and the worker online."""
    node = f"sample-{stack.process('sample', 'worker').pid}@"
    workers = until(lambda: flower("api/workers?status=1"), "no worker is known")
    cancelled = submit("sample.hold", {"until": "never"})
    wait_for_progress(cancelled)
    running = until(lambda: flower("api/tasks?state=STARTED"), "no task is shown as started")
    stack.operations("sample").CancelOperation(operations_pb2.CancelOperationRequest(name=cancelled.name))
    names = {submit(task, {"failures": 1}).name: task for task in ("sample.echo", "sample.fail", "sample.flaky")}
    for name in names:
        stack.finished(name)
    assert stack.finished(cancelled)[1].state == ops.OPERATION_STATE_CANCELLED
    names[cancelled.name] = "sample.hold"

    def shown():
        tasks = flower("api/tasks")
        found = {tasks[id_]["name"]: tasks[id_] for id_ in map(_id_of, names) if id_ in tasks}
        return found if {name: task["state"] for name, task in found.items()} == ENDINGS else None

    tasks = until(shown, "the endings are not shown")

    assert [worker.startswith(node) for worker in workers] == [True]
    assert list(workers.values()) == [True]
    assert list(running) == [_id_of(cancelled.name)]
    assert all(task["received"] and task["started"] for task in tasks.values())
    assert tasks["sample.flaky"]["retried"]
    assert "it never works" in tasks["sample.fail"]["exception"]


def test_its_buttons_work(stack, flower, submit, wait_for_progress):
    """Flower's own revoke cancels an operation."""
    operation = submit("sample.hold", {"until": "never"})
    wait_for_progress(operation)

    flower(f"api/task/revoke/{_id_of(operation.name)}?terminate=true", method="POST")

    assert stack.finished(operation)[1].state == ops.OPERATION_STATE_CANCELLED


def _id_of(name):
    return name.rpartition("/")[2]
