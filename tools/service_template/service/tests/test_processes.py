"""The service's real processes, against a real Valkey."""

import grpc
import pytest
from chassis.statuses import detail, rpc_status
from chassis.testing.harness import Harness, ServiceUnderTest
from google.rpc import error_details_pb2
from waybill.operations.v1 import operations_pb2
from waybill.seedling.v1 import seedling_pb2, seedling_pb2_grpc

pytestmark = pytest.mark.slow
SPANS = {
    "waybill.seedling.v1.SeedlingService/ProcessItem",
    "send seedling.default",
    "process seedling.default",
    "settle seedling.default",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Gateway and worker."""
    with Harness(tmp_path_factory.mktemp("seedling"), [ServiceUnderTest("seedling", "seedling_service")]) as running:
        running.start()
        yield running


@pytest.fixture
def seedling(stack):
    """A stock stub of the gateway."""
    return stack.stub("seedling", seedling_pb2_grpc.SeedlingServiceStub)


def a_request(**fields):
    return seedling_pb2.ProcessItemRequest(**{"text": "to be or not to be", **fields})


def test_what_is_accepted_is_done_in_one_trace(stack, seedling):
    """The operation succeeds with its record, and its trace runs from the call to the settle."""
    operation, metadata = stack.finished(seedling.ProcessItem(a_request()))

    response = seedling_pb2.ProcessItemResponse()
    assert operation.response.Unpack(response), operation
    assert response.record.words == 6
    assert metadata.state == operations_pb2.OPERATION_STATE_SUCCEEDED
    assert (metadata.task, metadata.queue) == ("seedling.process_item", "seedling.default")
    stack.collector.wait_for_trace(metadata.trace_id, lambda spans: {span.name for span in spans} == SPANS)


def test_a_repeated_request_is_one_operation(stack, seedling):
    """Two sends with one request_id are the same work."""
    first, second = (seedling.ProcessItem(a_request(request_id="same")) for _ in range(2))

    assert first.name == second.name


def test_bad_input_is_refused_with_every_violation(seedling):
    """Nothing is accepted of what is wrong."""
    with pytest.raises(grpc.RpcError) as caught:
        seedling.ProcessItem(a_request(text=""))

    status = rpc_status(caught.value)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    (violation,) = detail(status, error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("text", "has 0 characters; expected 1 to 10000")
