"""The processes of the sample service, for tests of the engine."""

from pathlib import Path

import pytest
from chassis.testing.harness import Harness, ServiceUnderTest
from sample_service.gateway import SampleStub
from sample_service.tasks import struct
from waybill.events.v1 import events_pb2, events_pb2_grpc

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
