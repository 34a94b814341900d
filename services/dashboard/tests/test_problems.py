import grpc
import pytest
from chassis.errors import FieldViolation, InvalidArgument, Unavailable
from dashboard_service import problems
from google.rpc import code_pb2, error_details_pb2, status_pb2


def test_every_code_of_grpc_has_an_http_status():
    """No code falls through."""
    assert set(problems.HTTP_STATUS) == set(grpc.StatusCode)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("CANCELLED", 499),
        ("UNKNOWN", 500),
        ("INVALID_ARGUMENT", 400),
        ("DEADLINE_EXCEEDED", 504),
        ("NOT_FOUND", 404),
        ("ALREADY_EXISTS", 409),
        ("PERMISSION_DENIED", 403),
        ("UNAUTHENTICATED", 401),
        ("RESOURCE_EXHAUSTED", 429),
        ("FAILED_PRECONDITION", 400),
        ("ABORTED", 409),
        ("OUT_OF_RANGE", 400),
        ("UNIMPLEMENTED", 501),
        ("INTERNAL", 500),
        ("UNAVAILABLE", 503),
        ("DATA_LOSS", 500),
    ],
)
def test_a_code_becomes_the_status_that_google_rpc_gives_it(code, status):
    """google/rpc/code.proto says which."""
    found = problems.of_status(status_pb2.Status(code=code_pb2.Code.Value(code), message="why"))

    assert (found.status, found.code, found.detail, found.reason) == (status, code, "why", code)


def test_everything_that_a_gateway_says_is_kept():
    """Reason, domain, metadata, every violation and the time to wait reach the caller."""
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full")
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="reports", metadata={"limit": "9"})
    )
    status.details.add().Pack(
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field="a", description="is wrong"),
                error_details_pb2.BadRequest.FieldViolation(field="b", description="is too"),
            ]
        )
    )
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1_500)
    status.details.add().Pack(retry)

    assert problems.of_status(status).as_json() == {
        "type": "urn:waybill:reports:QUEUE_FULL",
        "title": "Resource exhausted",
        "status": 429,
        "detail": "full",
        "code": "RESOURCE_EXHAUSTED",
        "reason": "QUEUE_FULL",
        "domain": "reports",
        "violations": [{"field": "a", "description": "is wrong"}, {"field": "b", "description": "is too"}],
        "metadata": {"limit": "9"},
        "retryAfterSeconds": 1.5,
    }


def test_a_number_that_is_no_code_is_an_unknown_error():
    """A server of tomorrow breaks no page of today."""
    assert problems.of_status(status_pb2.Status(code=99)).status == 500


def test_an_error_of_our_own_looks_alike():
    """The dashboard's own refusals have the same members."""
    refused = problems.of_error(InvalidArgument([FieldViolation("x", "is wrong")]))

    assert (refused.status, refused.domain, refused.violations) == (
        400,
        "dashboard",
        (FieldViolation("x", "is wrong"),),
    )
    assert problems.of_error(Unavailable()).retry_after_seconds == 1.0
