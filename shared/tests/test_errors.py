"""Errors: what they say by default, what a client gets, and what they mean out of a task."""

from datetime import timedelta

import grpc
import pytest
from chassis import errors, statuses
from google.rpc import error_details_pb2


def test_the_docstring_is_the_default_message():
    """An error that is raised without a message says what its class says."""
    assert errors.NotFound().message == "The resource does not exist"


def test_violations_are_raised_together():
    """A client learns every wrong field from one answer."""
    violations = errors.Violations()
    violations.require(False, "title", "is empty; expected 1 to 200 characters")
    violations.require(True, "format", "never said")
    violations.add("sections[1].query", "is missing")

    with pytest.raises(errors.InvalidArgument) as raised:
        violations.raise_if_any()

    assert [v.field for v in raised.value.violations] == ["title", "sections[1].query"]
    assert "title: is empty" in raised.value.message


def test_no_violation_raises_nothing():
    """A request without a fault passes."""
    errors.Violations().raise_if_any()


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidArgument([errors.FieldViolation("a.b", "is wrong")], reason="BAD", metadata={"k": "v"}),
        errors.InvalidArgument("not a field's fault"),
        errors.NotFound("r1 does not exist", reason="REPORT_NOT_FOUND", metadata={"report_id": "r1"}),
        errors.AlreadyExists("x", domain="elsewhere"),
        errors.FailedPrecondition(),
        errors.OutOfRange(reason="CURSOR_EXPIRED"),
        errors.PermissionDenied(),
        errors.Unauthenticated(),
        errors.Unimplemented(),
        errors.Cancelled(),
        errors.DeadlineExceeded(),
        errors.ResourceExhausted("full", retry_after=timedelta(seconds=2.5), reason="QUEUE_FULL"),
        errors.Unavailable("gone", retry_after=timedelta(0)),
        errors.WaybillError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_to_a_status_and_back(error):
    """Type, message, reason, metadata, violations and retry delay arrive as they were sent."""
    again = statuses.from_status(statuses.to_status(error, "reports"))

    assert type(again) is type(error)
    assert (again.message, again.reason, again.metadata) == (error.message, error.reason, error.metadata)
    assert (again.violations, again.retry_after) == (error.violations, error.retry_after)
    assert again.domain == (error.domain or "reports")


def test_a_status_names_the_service_that_raised_it():
    """ErrorInfo's domain is the service; its reason is the error's own."""
    status = statuses.to_status(errors.NotFound("gone", reason="REPORT_NOT_FOUND"), "reports")

    info = statuses.detail(status, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("reports", "REPORT_NOT_FOUND")


def test_a_code_without_a_class_of_its_own_is_kept():
    """An error of another server keeps its code, known to Waybill or not."""
    status = statuses.make_status(grpc.StatusCode.DATA_LOSS, "lost", "reports", "LOST")

    assert statuses.from_status(status).code is grpc.StatusCode.DATA_LOSS


class Failed(grpc.RpcError):
    def __init__(self, code, trailing=None, details="said so"):
        self._code, self._trailing, self._details = code, trailing, details

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailing


@pytest.mark.parametrize(
    ("error", "transient", "retry_after"),
    [
        (errors.TransientError("later", timedelta(seconds=7)), True, timedelta(seconds=7)),
        (errors.PermanentError("never"), False, None),
        (ValueError("odd"), True, None),
        (errors.Unavailable(retry_after=timedelta(seconds=3)), True, timedelta(seconds=3)),
        (errors.ResourceExhausted(retry_after=timedelta(seconds=4)), True, timedelta(seconds=4)),
        (errors.NotFound(), False, None),
        (errors.InvalidArgument([]), False, None),
        (Failed(grpc.StatusCode.UNAVAILABLE), True, None),
        (Failed(grpc.StatusCode.DEADLINE_EXCEEDED), True, None),
        (Failed(grpc.StatusCode.ABORTED), True, None),
        (Failed(grpc.StatusCode.NOT_FOUND), False, None),
        (Failed(grpc.StatusCode.UNIMPLEMENTED), False, None),
    ],
    ids=repr,
)
def test_what_a_task_ends_with_decides_whether_it_is_tried_again(error, transient, retry_after):
    """Transient errors, unknown exceptions and servers that are away are worth another attempt."""
    failure = statuses.task_failure(error, "reports")

    assert (failure.transient, failure.retry_after) == (transient, retry_after)
    assert statuses.detail(failure.status, error_details_pb2.ErrorInfo).reason


def test_a_servers_retry_info_is_honoured():
    """The delay that another service asks for reaches the retry decision, as does its reason."""
    sent = statuses.to_status(
        errors.ResourceExhausted("full", retry_after=timedelta(seconds=9), reason="QUEUE_FULL"), "notify"
    )
    trailing = ((statuses.STATUS_DETAILS_KEY, sent.SerializeToString()),)

    failure = statuses.task_failure(Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, trailing), "reports")

    assert failure.retry_after == timedelta(seconds=9)
    assert statuses.reason_of(failure.status) == "QUEUE_FULL"


def test_details_that_contradict_the_code_are_not_believed():
    """Details are taken only when they speak of the status that the call ended with."""
    other = statuses.to_status(errors.NotFound("other"), "notify")
    trailing = ((statuses.STATUS_DETAILS_KEY, other.SerializeToString()),)

    status = statuses.rpc_status(Failed(grpc.StatusCode.UNAVAILABLE, trailing))

    assert statuses.status_code(status) is grpc.StatusCode.UNAVAILABLE
    assert not status.details


def test_an_unexpected_exception_is_described_for_its_operator():
    """The dead letter of an unknown exception says which one it was."""
    status = statuses.task_failure(KeyError("title"), "reports").status

    assert "KeyError" in status.message
    assert statuses.reason_of(status) == "UNEXPECTED_ERROR"
