"""Real gateways and workers for the client: the sample service, whose tasks do as they are told, and reports."""

import asyncio
from pathlib import Path

import pytest
import waybill_client
from chassis.testing.harness import Harness, ServiceUnderTest
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, struct_pb2

ROOT = Path(__file__).resolve().parents[2]


def _sample_method():
    """The sample has no contract of its own: its one method, described at run time."""
    file = descriptor_pb2.FileDescriptorProto(name="waybill/sample/v1/sample.proto", package="waybill.sample.v1")
    file.dependency.extend([struct_pb2.DESCRIPTOR.name, operations_pb2.DESCRIPTOR.name])
    service = file.service.add(name="SampleService")
    service.method.add(name="Submit", input_type=".google.protobuf.Struct", output_type=".google.longrunning.Operation")
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindMethodByName("waybill.sample.v1.SampleService.Submit")


SUBMIT = _sample_method()


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """Gateway and worker of the sample service."""
    service = ServiceUnderTest(
        "sample",
        "sample_service",
        environment={"PYTHONPATH": str(ROOT / "shared/tests/sample"), "SAMPLE_WORKER_POOL": "threads"},
    )
    environment = {"WAYBILL_LEASE_SECONDS": "2", "WAYBILL_GRACE_SECONDS": "2"}
    with Harness(tmp_path_factory.mktemp("sample"), [service], environment=environment) as harness:
        harness.start()
        yield harness


@pytest.fixture
def stack(sample):
    """The sample's processes, all of them up whatever the test before has done to them."""
    sample.start()
    return sample


@pytest.fixture
def client(stack):
    with waybill_client.connect(stack.addresses["sample"]) as connected:
        yield connected


@pytest.fixture
def work():
    """`work("sample.echo", word="hi")`: what `submit` takes for a task of the sample."""

    def describe(task, request_id="", **payload):
        request = struct_pb2.Struct()
        request.update({"task": task, "payload": payload, "request_id": request_id})
        return SUBMIT, request

    return describe


@pytest.fixture
def reports_address(tmp_path_factory):
    """Gateway and worker of the reports service."""
    service = ServiceUnderTest("reports", "reports_service", environment={"REPORTS_WORKER_POOL": "threads"})
    with Harness(tmp_path_factory.mktemp("reports"), [service]) as harness:
        harness.start()
        yield harness.addresses["reports"]


@pytest.fixture(scope="session")
def anyio_backend():
    """Tests that are coroutines run on asyncio."""
    return "asyncio"


@pytest.fixture
def run_in_thread():
    """What blocks, beside an event loop."""
    return asyncio.to_thread
