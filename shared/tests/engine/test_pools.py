"""Attempts in real worker processes, in every pool: they run, they are retried, and what dies is taken up again."""

import time

import pytest
import sqlalchemy as sa
from chassis.testing.harness import Harness
from google.longrunning import operations_pb2
from sample_service import store as sample_store
from sample_service.tasks import struct
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.slow

LEASE_SECONDS = 2.0
#: Beyond the lease, from the death of a worker to the begin of the next attempt in another one.
RESCUE_SECONDS = 5
LOST, SUCCEEDED = ops.ATTEMPT_OUTCOME_LOST, ops.ATTEMPT_OUTCOME_SUCCEEDED


@pytest.fixture(scope="module", params=["threads", "solo", "prefork"])
def stack(request, tmp_path_factory, sample):
    environment = {"WAYBILL_LEASE_SECONDS": str(LEASE_SECONDS)}
    with Harness(tmp_path_factory.mktemp("pool"), [sample(request.param, 2)], environment=environment) as harness:
        harness.start()
        yield harness


@pytest.fixture
def pool(stack):
    return stack.services["sample"].environment["SAMPLE_WORKER_POOL"]


@pytest.fixture
def worker(stack):
    """The worker, running again, whatever the last test did to it."""
    process = stack.process("sample", "worker")
    process.start()
    return process


@pytest.fixture
def database(stack):
    engine = sa.create_engine(f"sqlite:///{stack.state_dir / 'sample' / 'sample.db'}")
    yield engine
    engine.dispose()


def runs_of(database, operation):
    table = sample_store.runs
    rows = sa.select(table.c.attempt).where(table.c.operation_id == operation.name.rpartition("/")[2])
    with database.connect() as connection:
        return [row.attempt for row in connection.execute(rows.order_by(table.c.sequence))]


def test_an_operation_runs_in_the_pool(stack, submit, worker):
    """Its response is what the task returned; the worker is named."""
    operation, metadata = stack.finished(submit("sample.echo", {"word": "hello"}))

    response = struct()
    operation.response.Unpack(response)
    assert response["word"] == "hello"
    assert [(attempt.number, attempt.outcome) for attempt in metadata.attempts] == [(1, SUCCEEDED)]
    assert metadata.worker.endswith(f":{worker.pid}")


def test_a_failed_attempt_is_retried(stack, submit, worker):
    """Three attempts, two errors on record, one result."""
    _, metadata = stack.finished(submit("sample.flaky", {"failures": 2}))

    assert metadata.state == ops.OPERATION_STATE_SUCCEEDED
    assert [attempt.number for attempt in metadata.attempts] == [1, 2, 3]
    assert [attempt.error.message for attempt in metadata.attempts] == ["attempt 1 fails", "attempt 2 fails", ""]


def test_an_attempt_that_a_process_dies_of_is_followed_by_another(stack, submit, worker, pool, database):
    """Kill -9 of the process that runs it, be it a pool's child or the whole worker."""
    operation = submit("sample.kill_own_process", {"times": 1})
    if pool != "prefork":
        worker.wait()
        worker.start()

    _, metadata = stack.finished(operation)

    assert [attempt.outcome for attempt in metadata.attempts] == [LOST, SUCCEEDED]
    assert runs_of(database, operation) == [1, 2]


def test_a_poison_message_ends_as_a_dead_letter(stack, submit, worker, pool):
    """It kills whatever takes it, uses up its attempts, and is not delivered again."""
    operation = submit("sample.poison")
    for _ in range(0 if pool == "prefork" else 2):
        worker.wait()
        worker.start()

    ended, metadata = stack.finished(operation)

    assert (metadata.state, ended.error.code) == (ops.OPERATION_STATE_FAILED, 14)
    assert [attempt.outcome for attempt in metadata.attempts] == [LOST, LOST]
    assert stack.finished(submit("sample.echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED


def test_a_killed_worker_is_replaced_within_the_lease_and_five_seconds(
    stack, submit, worker, wait_for_progress, tmp_path, database
):
    """Kill -9 in the middle of an attempt: attempt 2 begins in time, once there is a worker that runs attempts."""
    release = tmp_path / "release"
    operation = submit("sample.hold", {"until": str(release)})
    wait_for_progress(operation)

    worker.kill()
    died = time.time()
    worker.start()
    replaced = time.time()
    release.touch()
    _, metadata = stack.finished(operation)

    first, second = metadata.attempts
    assert (first.outcome, second.outcome) == (LOST, SUCCEEDED)
    begun = second.begin_time.ToNanoseconds() / 1e9
    assert begun < max(died + LEASE_SECONDS, replaced) + RESCUE_SECONDS
    assert runs_of(database, operation) == [1, 2]


def test_a_death_between_commit_and_settle_applies_nothing_twice_and_loses_no_event(
    stack, submit, worker, pool, database
):
    """One effect, every owed event published exactly once."""
    operation = submit("sample.commit_then_die", {"events": 3})
    if pool != "prefork":
        worker.wait()
        worker.start()

    _, metadata = stack.finished(operation)

    assert [attempt.outcome for attempt in metadata.attempts] == [LOST, SUCCEEDED]
    assert runs_of(database, operation) == [1, 2]
    effects = sample_store.effects
    of_operation = effects.c.operation_id == operation.name.rpartition("/")[2]
    with database.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(effects).where(of_operation)) == 1
    assert published_by(stack, operation) == [0, 1, 2]


def published_by(stack, operation):
    """The numbers of the events that the operation has published, in order."""
    service = stack.stub("sample", events_pb2_grpc.EventServiceStub)
    request = events_pb2.SubscribeRequest(cursor="0-0")
    numbers = []
    stream = service.Subscribe(request, timeout=20)
    for answer in stream:
        if answer.event.subject != operation.name:
            continue
        if answer.event.type == "waybill.sample.effect.taken":
            data = struct()
            answer.event.data.Unpack(data)
            numbers.append(int(data["number"]))
        if answer.event.type.endswith("operation.succeeded"):
            stream.cancel()
            break
    return numbers


def test_a_drain_finishes_what_runs_and_gives_the_rest_back(stack, submit, worker, wait_for_progress, pool, tmp_path):
    """SIGTERM: others run what was not begun while the drain still waits for its own; nothing counts as lost."""
    release = tmp_path / "release"
    slots = 1 if pool == "solo" else 2
    store = stack.store("sample")
    store.client.sadd(store.keys.named("paused"), "sample.default")
    before = [submit("sample.echo") for _ in range(20)]
    holding = [submit("sample.hold", {"until": str(release)}) for _ in range(slots)]
    behind = [submit("sample.echo") for _ in range(20)]
    store.client.srem(store.keys.named("paused"), "sample.default")
    store.client.rpush(store.keys.bell("sample.default"), "1")
    for operation in holding:
        wait_for_progress(operation)

    worker.terminate()
    worker.wait_for_event("worker.draining")
    other = stack.add("sample", "worker", name="sample worker of a drain")
    other.start()
    for operation in [*before, *behind]:
        assert stack.finished(operation)[1].state == ops.OPERATION_STATE_SUCCEEDED
    assert worker.running
    release.touch()

    assert worker.wait() == 0
    for operation in [*holding, *before, *behind]:
        _, metadata = stack.finished(operation)
        assert [attempt.outcome for attempt in metadata.attempts] == [SUCCEEDED]
    for operation in holding:
        assert stack.finished(operation)[1].worker.endswith(f":{worker.pid}")
    assert store.client.keys("*celery:sample.default") + store.client.keys("*celery:unacked*") == []
    other.end()


def test_a_client_cancels_what_runs(stack, submit, worker, wait_for_progress, tmp_path):
    """The attempt hears of it with the next renewal or report, and the operation is CANCELLED."""
    operation = submit("sample.hold", {"until": str(tmp_path / "never")})
    wait_for_progress(operation)

    stack.operations("sample").CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))

    ended, metadata = stack.finished(operation, timeout=10)
    assert (metadata.state, ended.error.code) == (ops.OPERATION_STATE_CANCELLED, 1)
    assert [attempt.outcome for attempt in metadata.attempts] == [ops.ATTEMPT_OUTCOME_CANCELLED]


def test_an_attempt_that_outlives_its_timeout_ends(stack, submit, worker):
    """The task notices at its next check; without attempts left it is FAILED with ATTEMPT_TIMEOUT."""
    ended, metadata = stack.finished(submit("sample.brief"), timeout=10)

    assert metadata.state == ops.OPERATION_STATE_FAILED
    assert ended.error.code == 4


def test_an_attempt_that_heeds_no_timeout_is_ended_by_force(stack, submit, worker, pool):
    """The operation is told why; a child is killed, a worker of threads starts anew in its own process."""
    pid = worker.pid
    ended, metadata = stack.finished(submit("sample.deaf"), timeout=20)

    assert (metadata.state, ended.error.code) == (ops.OPERATION_STATE_FAILED, 4)
    assert "outlived its timeout" in ended.error.message
    worker.wait_for_event("attempt.overran")
    if pool != "prefork":
        worker.wait_for_event("worker.recycled")
    assert stack.finished(submit("sample.echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED
    assert (worker.pid, worker.running) == (pid, True)


def test_an_attempt_that_heeds_no_cancellation_is_ended_by_force(
    stack, submit, worker, wait_for_progress, pool, tmp_path
):
    """What runs beside it in the same worker goes on to its own end, once."""
    beside = None
    if pool == "threads":
        beside = submit("sample.hold", {"until": str(tmp_path / "release")})
        wait_for_progress(beside)
    operation = submit("sample.deaf_and_patient")
    wait_for_progress(operation)

    stack.operations("sample").CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))

    assert stack.finished(operation, timeout=20)[1].state == ops.OPERATION_STATE_CANCELLED
    if beside is not None:
        (tmp_path / "release").touch()
        _, metadata = stack.finished(beside)
        assert [attempt.outcome for attempt in metadata.attempts] == [SUCCEEDED]
    assert stack.finished(submit("sample.echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED


def test_a_worker_with_a_deaf_attempt_ends_when_it_is_told_to(stack, submit, worker, wait_for_progress):
    """It waits for no thread that heeds nothing, and the operation has its end."""
    operation = submit("sample.deaf")
    wait_for_progress(operation)
    before = len(worker.lines)

    worker.terminate()

    assert worker.wait() == 0
    assert stack.finished(operation)[1].state == ops.OPERATION_STATE_FAILED
    assert not any("worker.recycled" in line for line in worker.lines[before:])


def test_short_operations_in_a_row_share_begins_and_settles(stack, submit, worker):
    """Each runs once and has its own attempt on record, whatever they shared."""
    operations = [submit("sample.echo", {"number": number}) for number in range(60)]

    for operation in operations:
        _, metadata = stack.finished(operation)
        assert [(attempt.number, attempt.outcome) for attempt in metadata.attempts] == [(1, SUCCEEDED)]
