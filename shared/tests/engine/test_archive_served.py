"""A gateway serves what has ended from its service's database once the store has forgotten it."""

import threading
import time

import pytest
from chassis.testing.harness import metadata_of
from google.longrunning import operations_pb2
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

ENVIRONMENT = {"WAYBILL_TAIL_SECONDS": "1"}


@pytest.fixture
def forgotten(stack):
    """`forgotten(operation)`: until its store has forgotten it."""
    store = stack.store("sample")

    def wait(operation):
        key = store.keys.operation(operation.name.rpartition("/")[2])
        until, pause = time.monotonic() + 30, threading.Event()
        while store.client.exists(key):
            assert time.monotonic() < until
            pause.wait(0.05)

    return wait


def test_ended_operations_move_into_the_database_and_are_served_from_there(stack, submit, forgotten):
    """Get, Wait, List and the dead letters answer as before; a replay shows on both sides."""
    echoed, _ = stack.finished(submit("sample.echo", {"word": "hello"}))
    failed, _ = stack.finished(submit("sample.fail"))
    forgotten(echoed)
    forgotten(failed)

    assert stack.finished(echoed)[0] == echoed
    assert stack.finished(failed)[0] == failed
    request = operations_pb2.ListOperationsRequest(filter="state = FAILED AND task = sample.fail")
    assert [one.name for one in stack.operations("sample").ListOperations(request).operations] == [failed.name]

    letters = stack.stub("sample", admin_pb2_grpc.DeadLetterServiceStub)
    listed = letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(service="sample"))
    assert [(one.operation, one.group) for one in listed.dead_letters] == [(failed.name, "sample.fail/NEVER_WORKS")]
    replay = letters.ReplayDeadLetter(admin_pb2.ReplayDeadLetterRequest(service="sample", operation=failed.name))
    _, metadata = stack.finished(replay)
    assert (metadata.replayed_from, metadata.state) == (failed.name, ops.OPERATION_STATE_FAILED)
    assert metadata_of(stack.finished(failed)[0]).replayed_by == replay.name


def test_statistics_and_cancellations_are_served(stack, submit):
    """By every gateway, for its own service: what has ended is counted, what waits is cancelled by filter."""
    for _ in range(3):
        stack.finished(submit("sample.echo", {"word": "hello"}))
    service = stack.stub("sample", admin_pb2_grpc.OperationServiceStub)

    answer = service.GetOperationStats(admin_pb2.GetOperationStatsRequest(service="sample", filter="task:ECHO"))
    assert {(one.task, one.state) for one in answer.stats} == {("sample.echo", ops.OPERATION_STATE_SUCCEEDED)}
    assert sum(one.count for one in answer.stats) >= 3
    assert all(one.total.max.ToMicroseconds() >= one.wait.max.ToMicroseconds() > 0 for one in answer.stats)

    held = submit("sample.hold", {"until": "nowhere"}, request_id="to be cancelled")
    cancel = admin_pb2.CancelOperationsRequest(service="sample", filter='request_id = "to be cancelled"')
    assert service.CancelOperations(cancel).cancelled == 1
    assert stack.finished(held)[1].state == ops.OPERATION_STATE_CANCELLED
