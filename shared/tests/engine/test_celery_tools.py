"""Celery's own tools still work on a service: remote control, and ordinary tasks on the same queues."""

import itertools
import json
import subprocess
import sys

import grpc
import pytest
import sqlalchemy as sa
from google.longrunning import operations_pb2
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
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


def answer_of(inspected):
    """What the one worker answered."""
    assert inspected.returncode == 0, inspected.stderr
    (answer,) = json.loads(inspected.stdout).values()
    return answer


def control(stack, *arguments):
    sent = celery(stack, "control", *arguments)
    assert sent.returncode == 0, sent.stderr


def id_of(name):
    return name.rpartition("/")[2]


def state_of(stack, name):
    operation = stack.operations("sample").GetOperation(operations_pb2.GetOperationRequest(name=name))
    metadata = ops.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.state


@pytest.fixture
def held(stack, submit, wait_for_progress):
    """`held()`: the name of an operation that runs; `held.release()`: all of them end, as they do with the test."""
    files = []
    numbers = itertools.count()

    def hold():
        files.append(stack.directory / f"until-{id(files)}-{next(numbers)}")
        operation = submit("sample.hold", {"until": str(files[-1])})
        wait_for_progress(operation)
        return operation.name

    def release():
        for file in files:
            file.touch()

    hold.release = release
    yield hold
    release()


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


def test_a_message_for_a_task_of_operations_is_parked(stack, submit):
    """`celery call` knows no operations: its message is kept, and the worker goes on."""
    worker = stack.process("sample", "worker")
    pid, mark = worker.pid, worker.mark()
    sent = celery(stack, "call", "sample.echo", "--args", '["no operation"]')

    assert sent.returncode == 0, sent.stderr
    assert worker.wait_for_event("message.parked", since=mark, reason="unknown task sample.echo")
    assert stack.finished(submit("sample.echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED
    assert worker.pid == pid


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


@pytest.fixture
def by_hand(stack):
    """`by_hand(*options)`: a worker that Celery's own command started, in place of the service's."""
    started = []

    def start(*options):
        command = [sys.executable, "-m", "celery", "-A", "sample_service.tasks:app", "worker", "-n", "by-hand@%h"]
        process = stack.program(
            "celery worker",
            [*command, *options],
            environment=stack.services["sample"].environment,
            ready_event="worker.ready",
        )
        stack.process("sample", "worker").stop()
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()
        stack.processes.remove(process)
    stack.process("sample", "worker").start()


def test_a_worker_that_celery_started_runs_operations_too(stack, submit, by_hand):
    """`celery -A ... worker` is a worker of the service, with the service's pool and size, and drains as one."""
    worker = by_hand()
    ready = worker.wait_for_event("worker.ready")

    _, metadata = stack.finished(submit("sample.echo"))

    assert metadata.state == ops.OPERATION_STATE_SUCCEEDED
    assert metadata.worker.endswith(f":{worker.pid}")
    assert (ready["pool"], ready["concurrency"]) == ("threads", 4)
    assert set(ready["queues"]) == {"sample.default", "sample.bulk"}
    assert worker.stop() == 0
    worker.wait_for_event("worker.drained")


def test_inspect_shows_what_runs_and_what_waits_for_a_slot(stack, submit, held):
    """`active` and `reserved` name operations by id and task; `registered` and `stats` answer as of any worker."""
    running = [held() for _ in range(2)]
    reserved = [submit("sample.hold", {"until": "never"}) for _ in range(2)]

    active = answer_of(celery(stack, "inspect", "active", "--json"))
    waiting = answer_of(celery(stack, "inspect", "reserved", "--json"))
    registered = answer_of(celery(stack, "inspect", "registered", "--json"))
    stats = answer_of(celery(stack, "inspect", "stats", "--json"))

    assert {(each["id"], each["name"]) for each in active} == {(id_of(name), "sample.hold") for name in running}
    assert {each["id"] for each in waiting} <= {id_of(operation.name) for operation in reserved}
    assert {"sample.echo", "sample.plain"} <= set(registered)
    assert stats["pool"]["max-concurrency"] == 2
    control(stack, "revoke", *[id_of(operation.name) for operation in reserved])


@pytest.mark.parametrize("command", [("revoke",), ("terminate", "SIGTERM")])
def test_revoke_and_terminate_cancel_what_runs_and_what_waits(stack, submit, held, command):
    """Not discarded: each ends as CANCELLED, with the reason that a client's cancellation has."""
    running = [held() for _ in range(2)]
    waiting = [submit("sample.echo").name for _ in range(5)]
    command = [*command, *[id_of(name) for name in (*running, *waiting)]]

    control(stack, *command)

    for name in (*running, *waiting):
        operation, metadata = stack.finished(name)
        assert metadata.state == ops.OPERATION_STATE_CANCELLED
        assert operation.error.code == grpc.StatusCode.CANCELLED.value[0]


def test_purge_cancels_what_waits_and_drops_plain_messages(stack, submit):
    """`celery purge` empties the queues of the service; every operation of theirs ends, and the count is true."""
    stub = stack.stub("sample", admin_pb2_grpc.QueueServiceStub)
    stub.PauseQueue(admin_pb2.PauseQueueRequest(queue="sample.bulk"))
    waiting = [submit("sample.bulk_echo").name for _ in range(20)]

    purged = celery(stack, "purge", "-f", "-Q", "sample.bulk")
    stub.ResumeQueue(admin_pb2.ResumeQueueRequest(queue="sample.bulk"))

    assert purged.returncode == 0, purged.stderr
    assert "20" in purged.stdout
    for name in waiting:
        assert stack.finished(name)[1].state == ops.OPERATION_STATE_CANCELLED
    assert stack.finished(submit("sample.bulk_echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED


def test_a_rate_limit_holds_operations_back(stack, submit):
    """`control rate_limit`: beyond what it lets through, operations wait as QUEUED; they run when it is lifted."""
    control(stack, "rate_limit", "sample.echo", "1/h")
    stack.finished(submit("sample.echo"))
    waiting = [submit("sample.echo").name for _ in range(3)]
    answer_of(celery(stack, "inspect", "ping", "--json"))
    states = {state_of(stack, name) for name in waiting}

    control(stack, "rate_limit", "sample.echo", "0")

    assert states == {ops.OPERATION_STATE_QUEUED}
    for name in waiting:
        assert stack.finished(name)[1].state == ops.OPERATION_STATE_SUCCEEDED


@pytest.mark.thorough
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_pool_that_grows_and_shrinks_takes_in_as_much(stack, submit, held, pool, by_hand):
    """`control pool_grow` and `pool_shrink` move how many attempts run at once, in the pools that services use."""
    if pool == "prefork":
        by_hand("-P", "prefork", "-c", "2")

    control(stack, "pool_grow", "2")
    names = {id_of(held()) for _ in range(4)}
    grown = {each["id"] for each in answer_of(celery(stack, "inspect", "active", "--json"))}
    held.release()
    for name in names:
        stack.finished(f"operations/sample/{name}")
    control(stack, "pool_shrink", "3")
    running, waiting = held(), submit("sample.hold", {"until": "never"}).name
    shrunk = [each["id"] for each in answer_of(celery(stack, "inspect", "active", "--json"))]
    state = state_of(stack, waiting)
    control(stack, "revoke", id_of(waiting))
    control(stack, "pool_grow", "1")

    assert grown == names
    assert shrunk == [id_of(running)]
    assert state == ops.OPERATION_STATE_QUEUED
