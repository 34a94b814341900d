"""What a stock client reads of an error: google.rpc.Status with its details (AIP-193)."""

from dataclasses import dataclass, field
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class Refusal:
    """A failed call, its details decoded."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict = field(default_factory=dict)
    #: Field to description.
    violations: dict = field(default_factory=dict)
    retry_after: timedelta | None = None

    @property
    def brief(self):
        return self.code.name, self.reason


def read(error):
    """The refusal in a grpc.RpcError."""
    packed = next((value for key, value in error.trailing_metadata() or () if key == DETAILS), b"")
    status = status_pb2.Status.FromString(packed)
    if packed:
        assert (status.code, status.message) == (error.code().value[0], error.details())
    info = detail(status, error_details_pb2.ErrorInfo)
    retry = detail(status, error_details_pb2.RetryInfo)
    return Refusal(
        code=error.code(),
        message=error.details(),
        reason=info.reason if info else "",
        domain=info.domain if info else "",
        metadata=dict(info.metadata) if info else {},
        violations=violations_of(status),
        retry_after=retry.retry_delay.ToTimedelta() if retry else None,
    )


def refused(call, request, timeout=10, **options):
    """What the call is refused with; it fails the test when it is answered."""
    with pytest.raises(grpc.RpcError) as caught:
        drained(call(request, timeout=timeout, **options))
    return read(caught.value)


def drained(answer):
    """All messages of a streamed answer; a single answer as it is."""
    return list(answer) if hasattr(answer, "cancel") else answer


def detail(status, kind):
    """The first detail of that type; None for none."""
    message = kind()
    return next((message for packed in status.details if packed.Unpack(message)), None)


def violations_of(status):
    bad = detail(status, error_details_pb2.BadRequest)
    return {each.field: each.description for each in bad.field_violations} if bad else {}


def reason_of(status):
    """The ErrorInfo's reason in a Status."""
    info = detail(status, error_details_pb2.ErrorInfo)
    return info.reason if info else ""
