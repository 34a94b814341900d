"""The processes of the sample service, for tests of the engine."""

from pathlib import Path

import pytest
from chassis.testing.harness import Harness, ServiceUnderTest
from sample_service.gateway import SampleStub
from sample_service.tasks import struct

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
