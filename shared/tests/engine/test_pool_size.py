"""A worker runs more or fewer attempts at a time when it is told to, and none of them ends for it."""

import grpc
import pytest
from chassis.keeper import arguments_again
from chassis.testing.harness import Harness, metadata_of
from google.longrunning import operations_pb2
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.slow

SUCCEEDED = ops.ATTEMPT_OUTCOME_SUCCEEDED


@pytest.fixture(scope="module", params=["threads", "prefork"])
def stack(request, tmp_path_factory, sample):
    environment = {"WAYBILL_LEASE_SECONDS": "2"}
    with Harness(tmp_path_factory.mktemp("size"), [sample(request.param, 2)], environment=environment) as harness:
        harness.start()
        yield harness


@pytest.fixture
def workers(stack):
    return stack.stub("sample", admin_pb2_grpc.WorkerServiceStub)


@pytest.fixture
def name(workers):
    (worker,) = workers.ListWorkers(admin_pb2.ListWorkersRequest(), timeout=10).workers
    return worker.name


@pytest.fixture
def resize(workers, name):
    def resize(concurrency):
        """Until the worker has heard it: one that starts anew does not yet."""
        request = admin_pb2.SetConcurrencyRequest(worker=name, concurrency=concurrency)
        while True:
            try:
                return workers.SetConcurrency(request, timeout=20)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    yield resize
    resize(2)


@pytest.fixture
def hold(submit, tmp_path):
    """`hold("a")` accepts an operation that runs until `hold.release("a")`."""

    class Hold:
        def __call__(self, word):
            return submit("sample.hold", {"until": str(tmp_path / word)})

        def release(self, *words):
            for word in words:
                (tmp_path / word).touch()

    return Hold()


def ran_once(stack, operation):
    """It has succeeded in its first attempt, which nobody ended."""
    _, metadata = stack.finished(operation)
    return [attempt.outcome for attempt in metadata.attempts] == [SUCCEEDED]


def state_of(stack, operation):
    request = operations_pb2.GetOperationRequest(name=operation.name)
    return metadata_of(stack.operations("sample").GetOperation(request, timeout=10)).state


def listed(workers):
    return [worker.concurrency for worker in workers.ListWorkers(admin_pb2.ListWorkersRequest(), timeout=10).workers]


def test_a_pool_grows_while_work_waits(stack, submit, hold, workers, resize, wait_for_progress):
    """What waited behind the two slots runs beside what occupies them; the heartbeat has the new figure at once."""
    running = [hold("first") for _ in range(2)]
    for operation in running:
        wait_for_progress(operation)
    waiting = [hold("second") for _ in range(3)]

    assert resize(5).concurrency == 5

    assert listed(workers) == [5]
    for operation in waiting:
        wait_for_progress(operation)
    hold.release("first", "second")
    assert all(ran_once(stack, operation) for operation in [*running, *waiting])


def test_a_pool_shrinks_while_attempts_run(stack, submit, hold, workers, resize, wait_for_progress):
    """All four go on to their end, once; then one runs at a time, and nothing that waits is lost."""
    resize(4)
    running = [hold(f"running {number}") for number in range(4)]
    for operation in running:
        wait_for_progress(operation)

    assert resize(1).concurrency == 1

    assert listed(workers) == [1]
    short = [submit("sample.echo", {"number": number}) for number in range(20)]
    hold.release(*(f"running {number}" for number in range(4)))
    assert all(ran_once(stack, operation) for operation in [*running, *short])
    alone, behind = hold("alone"), hold("alone")
    wait_for_progress(alone)
    state = state_of(stack, behind)
    hold.release("alone")
    assert state == ops.OPERATION_STATE_QUEUED
    assert ran_once(stack, alone)
    assert ran_once(stack, behind)


def test_a_pool_that_grows_again_keeps_those_that_were_to_leave(stack, hold, resize, wait_for_progress):
    """Shrunk and grown while all of its attempts run: they end by themselves, and as many run after them."""
    resize(3)
    running = [hold("running") for _ in range(3)]
    for operation in running:
        wait_for_progress(operation)

    resize(1)
    resize(4)
    more = hold("more")
    wait_for_progress(more)
    hold.release("running")

    assert all(ran_once(stack, operation) for operation in running)
    after = [hold("more") for _ in range(3)]
    for operation in after:
        wait_for_progress(operation)
    hold.release("more")
    assert all(ran_once(stack, operation) for operation in [more, *after])


def test_a_pool_that_changes_all_the_time_loses_nothing(stack, submit, resize):
    """Up and down again and again under a stream of short operations: each runs once."""
    operations = []
    for concurrency in (4, 1, 3, 2, 4, 1):
        operations += [submit("sample.echo", {"number": number}) for number in range(25)]
        resize(concurrency)

    assert all(ran_once(stack, operation) for operation in operations)


def test_a_worker_keeps_its_size_over_an_attempt_that_heeds_nothing(stack, submit, workers, resize):
    """A worker of threads starts anew for it, a pool of processes replaces a child: both have what they were set to."""
    worker = stack.process("sample", "worker")
    resize(3)
    mark = worker.mark()

    stack.finished(submit("sample.deaf"), timeout=60)
    if stack.services["sample"].environment["SAMPLE_WORKER_POOL"] == "threads":
        worker.wait_for_event("worker.recycled", since=mark)
        worker.wait_for_event("worker.ready", since=mark, concurrency=3)

    assert listed(workers) == [3]


def test_a_worker_that_is_unknown_is_not_found(workers):
    """By its whole name."""
    with pytest.raises(grpc.RpcError) as refused:
        workers.SetConcurrency(admin_pb2.SetConcurrencyRequest(worker="sample@nowhere:1", concurrency=3), timeout=10)

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_worker_that_starts_anew_in_its_place_keeps_its_size():
    """What it was set to last stands on its command line, once."""
    again = arguments_again(["-m", "sample_service", "worker", "-c", "2"], 5)

    assert again == ["-m", "sample_service", "worker", "-c", "2", "--concurrency=5"]
    assert arguments_again(again, 3) == ["-m", "sample_service", "worker", "-c", "2", "--concurrency=3"]
