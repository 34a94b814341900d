"""Celery's own tools still work on a service: remote control, and ordinary tasks on the same queues."""

import json
import subprocess
import sys

import pytest
import sqlalchemy as sa
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.slow


def celery(stack, *arguments):
    command = [sys.executable, "-m", "celery", "-A", "sample_service.tasks:app", *arguments]
    return subprocess.run(
        command,
        env={**stack.environment, **stack.services["sample"].environment},
        cwd=stack.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_inspect_reaches_the_worker(stack):
    """`celery -A ... inspect` answers with the worker's node, its queues and its tasks."""
    node = f"sample-{stack.process('sample', 'worker').pid}@"

    ping = celery(stack, "inspect", "ping", "--json")
    queues = celery(stack, "inspect", "active_queues", "--json")

    assert ping.returncode == 0, ping.stderr
    (answer,) = json.loads(ping.stdout).items()
    assert answer[0].startswith(node)
    assert answer[1] == {"ok": "pong"}
    (active,) = json.loads(queues.stdout).values()
    assert {queue["name"] for queue in active} == {"sample.default", "sample.bulk"}


def test_a_plain_task_runs_beside_operations(stack, submit):
    """An ordinary Celery message on a queue of the service, sent by Celery's own means, while operations flow."""
    operations = [submit("sample.echo") for _ in range(10)]
    sent = celery(stack, "call", "sample.plain", "--args", '["a plain word"]')
    operations += [submit("sample.echo") for _ in range(10)]

    assert sent.returncode == 0, sent.stderr
    for operation in operations:
        assert stack.finished(operation)[1].state == ops.OPERATION_STATE_SUCCEEDED
    stack.process("sample", "worker").wait_for_event("plain.noted", word="a plain word")
    engine = sa.create_engine(f"sqlite:///{stack.state_dir / 'sample' / 'sample.db'}")
    with engine.connect() as connection:
        noted = connection.scalar(sa.text("select count(*) from effects where effect_id = 'a plain word'"))
    assert noted == 1


def test_many_plain_tasks_do_not_stop_the_operations(stack, submit):
    """Their prefetch is given back as they end: more of them than the worker has slots, then operations."""
    words = [f"word {number}" for number in range(12)]
    script = f"from sample_service.tasks import plain\nfor word in {words!r}: plain.delay(word)"
    environment = {**stack.environment, **stack.services["sample"].environment}
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=60, check=True)
    worker = stack.process("sample", "worker")
    for word in words:
        worker.wait_for_event("plain.noted", word=word)

    assert stack.finished(submit("sample.echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED


def test_what_is_no_data_is_refused(stack, submit):
    """A pickled message is not run but parked, and the worker goes on."""
    script = (
        "from sample_service.app import app\n"
        "import kombu.serialization; kombu.serialization.enable_insecure_serializers(['pickle'])\n"
        "app.send_task('sample.plain', args=['pickled'], serializer='pickle', queue='sample.default')"
    )
    environment = {**stack.environment, **stack.services["sample"].environment}
    mark = stack.process("sample", "worker").mark()
    sent = subprocess.run(
        [sys.executable, "-c", script], env=environment, timeout=60, check=False, capture_output=True, text=True
    )

    assert sent.returncode == 0, sent.stderr
    assert stack.finished(submit("sample.echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED
    worker = stack.process("sample", "worker")
    worker.wait_for_event("message.parked", since=mark, reason="content type application/x-python-serialize")
    assert not any(line.get("event") == "plain.noted" and line.get("word") == "pickled" for line in worker.events)


def test_a_worker_that_celery_started_runs_operations_too(stack, submit):
    """`celery -A ... worker` is a worker of the service, with the service's pool and size, and drains as one."""
    command = [sys.executable, "-m", "celery", "-A", "sample_service.tasks:app", "worker", "-n", "by-hand@%h"]
    by_hand = stack.program(
        "celery worker", command, environment=stack.services["sample"].environment, ready_event="worker.ready"
    )
    stack.process("sample", "worker").stop()
    by_hand.start()
    ready = by_hand.wait_for_event("worker.ready")

    _, metadata = stack.finished(submit("sample.echo"))

    assert metadata.state == ops.OPERATION_STATE_SUCCEEDED
    assert metadata.worker.endswith(f":{by_hand.pid}")
    assert (ready["pool"], ready["concurrency"]) == ("threads", 4)
    assert set(ready["queues"]) == {"sample.default", "sample.bulk"}
    assert by_hand.stop() == 0
    by_hand.wait_for_event("worker.drained")
