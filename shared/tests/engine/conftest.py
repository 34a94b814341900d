"""The processes of the sample service, for tests of the engine."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.retries import RetryPolicy
from chassis.store import AsyncStore
from chassis.store_calls import AttemptError, Settlement
from chassis.testing.harness import Harness, ServiceUnderTest
from sample_service.gateway import SampleStub
from sample_service.tasks import struct
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

SAMPLE = Path(__file__).parent.parent / "sample"


def sample_service(pool="threads", concurrency=4, **environment):
    return ServiceUnderTest(
        "sample",
        "sample_service",
        environment={
            "PYTHONPATH": str(SAMPLE),
            "SAMPLE_WORKER_POOL": pool,
            "SAMPLE_WORKER_CONCURRENCY": str(concurrency),
            **environment,
        },
    )


@pytest.fixture(scope="session")
def sample():
    """`sample(pool, concurrency, SAMPLE_X=...)`: the sample service with its gateway and a worker."""
    return sample_service


@pytest.fixture(scope="module")
def stack(tmp_path_factory, request):
    """Gateway and worker of the sample service, for a module; `POOL` and `ENVIRONMENT` are the module's to set."""
    pool = getattr(request.module, "POOL", "threads")
    environment = {"WAYBILL_LEASE_SECONDS": "2", **getattr(request.module, "ENVIRONMENT", {})}
    with Harness(tmp_path_factory.mktemp("stack"), [sample_service(pool, 2)], environment=environment) as harness:
        harness.start()
        yield harness


@pytest.fixture
def submit(stack):
    """`submit("sample.echo", {...}, request_id="")`: accept an operation over the gateway."""
    stub = stack.stub("sample", SampleStub)
    return lambda task, payload=None, request_id="": stub.Submit(
        struct(task=task, payload=payload or {}, request_id=request_id), timeout=10
    )


@pytest.fixture
def wait_for_progress(stack):
    """`wait_for_progress(operation)`: until its attempt has reported."""
    service = stack.stub("sample", events_pb2_grpc.EventServiceStub)

    def wait(operation):
        stream = service.Subscribe(events_pb2.SubscribeRequest(cursor="0-0"), timeout=30)
        for answer in stream:
            if answer.event.subject == operation.name and answer.event.type.endswith(".progressed"):
                stream.cancel()
                return

    return wait


@pytest.fixture
async def async_store(valkey):
    """The store of the service `test` on asyncio."""
    store = AsyncStore.connect("test", valkey.url)
    yield store
    await store.close()


class Work:
    """Operations of the service `test`, brought into the states that a test needs."""

    def __init__(self, store):
        self.store = store
        self._numbers = itertools.count(1)

    def accept(self, count=1, task="test.do", **options):
        """Accepted in one call, at one instant; their ids."""
        items = [self._acceptance(task, dict(options)) for _ in range(count)]
        assert {verdict.verdict for verdict in self.store.run(store_calls.accept(items))} == {"accepted"}
        return [item.record.id for item in items]

    def begin(self, operation_id):
        """The token of an attempt that has begun."""
        number = next(self._numbers)
        fetched = self.store.run(store_calls.fetch(500, ["test.q"], ["test.do", "test.other"], session=f"f{number}"))
        self._deliveries = getattr(self, "_deliveries", {}) | {d.operation_id: d.delivery for d in fetched.deliveries}
        token, span = f"token{number}", number.to_bytes(8, "big")
        begin = store_calls.begin(operation_id, self._deliveries[operation_id], worker="w@h:1", token=token, span=span)
        assert isinstance(self.store.run(begin), store_calls.Begun)
        return token

    def settle(self, operation_id, outcome, *, token=None, reason="BROKEN", result=b""):
        error = None if outcome == "SUCCEEDED" else AttemptError(14, "it broke", reason)
        settlement = Settlement(
            operation_id,
            token or self.begin(operation_id),
            ops.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome}"),
            result=result,
            error=error,
        )
        self.store.run(store_calls.settle([settlement]))

    def fail(self, count=1, reason="BROKEN", **options):
        """Dead letters; their ids."""
        ids = self.accept(count, **options)
        for operation_id in ids:
            self.settle(operation_id, "FAILED", reason=reason)
        return ids

    def _acceptance(self, task, options):
        request = reports_pb2.RenderReportRequest(title=options.pop("title", "t"))
        request.options.labels.update(options.pop("labels", {}))
        queue = options.pop("queue", "test.q")
        facts = SimpleNamespace(name=task, policy=RetryPolicy(), queue_name=queue, default_priority=2, retention=None)
        submission = Submission(facts, request, request_id=options.pop("request_id", ""), **options)
        return acceptance(submission, Provenance("", "S/M"))


@pytest.fixture
def work(store):
    return Work(store)
