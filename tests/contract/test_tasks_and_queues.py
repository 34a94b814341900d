"""Names that are stored and sent: a change here needs a plan for what is already in Redis."""

import importlib
import json
from pathlib import Path

import pytest

GOLDEN = json.loads(Path(__file__).with_name("tasks_and_queues.json").read_text())


@pytest.mark.parametrize("service", sorted(GOLDEN))
def test_tasks_payloads_and_queues_are_those_on_record(service):
    """Task name to queue, payload and response types, attempts and timeout; queues to pool."""
    app = importlib.import_module(f"{service}_service.tasks").app

    tasks = {
        name: {
            "queue": task.queue_name,
            "payload": task.request_type.DESCRIPTOR.full_name,
            "response": task.response_type.DESCRIPTOR.full_name if task.response_type else None,
            "max_attempts": task.policy.max_attempts,
            "timeout_seconds": task.timeout.total_seconds(),
        }
        for name, task in app.operation_tasks.items()
    }

    assert {
        "pool": app.pool_kind,
        "queues": [queue.name for queue in app.queues],
        "tasks": tasks,
    } == GOLDEN[service]


@pytest.mark.parametrize("service", sorted(GOLDEN))
def test_a_service_names_only_its_own(service):
    """A queue is private, and so is a task."""
    names = [*GOLDEN[service]["queues"], *GOLDEN[service]["tasks"]]

    assert all(name.startswith(f"{service}.") for name in names)
