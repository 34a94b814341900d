"""A failed call as HTTP says it: RFC 9457, `application/problem+json`, with everything the gateway said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from chassis.errors import FieldViolation, WaybillError
from chassis.statuses import detail, reason_of, retry_delay, rpc_status, status_code, to_status, violations_of
from google.rpc import error_details_pb2, status_pb2

from dashboard_service.formatting import sentence

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499

# google/rpc/code.proto gives these; 499 is what nginx made of a request that its client gave up.
HTTP_STATUS: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: CLIENT_CLOSED_REQUEST,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, for a page or for a program."""

    status: int
    code: str
    detail: str
    reason: str = ""
    domain: str = ""
    violations: Sequence[FieldViolation] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_seconds: float | None = None

    @property
    def title(self) -> str:
        """The code as people read it."""
        return sentence(self.code)

    def as_json(self) -> dict[str, Any]:
        """The members of RFC 9457, and as extensions those of google.rpc.Status."""
        members: dict[str, Any] = {
            "type": f"urn:waybill:{self.domain or 'grpc'}:{self.reason or self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "reason": self.reason,
            "domain": self.domain,
            "violations": [{"field": each.field, "description": each.description} for each in self.violations],
            "metadata": dict(self.metadata),
        }
        if self.retry_after_seconds is not None:
            members["retryAfterSeconds"] = self.retry_after_seconds
        return members


def of_status(status: status_pb2.Status) -> Problem:
    """From a google.rpc.Status with any or none of its details."""
    info = detail(status, error_details_pb2.ErrorInfo)
    code = status_code(status)
    wait = retry_delay(status)
    return Problem(
        status=HTTP_STATUS[code],
        code=code.name,
        detail=status.message or sentence(code.name),
        reason=reason_of(status),
        domain=info.domain if info else "",
        violations=violations_of(status),
        metadata=dict(info.metadata) if info else {},
        retry_after_seconds=wait.total_seconds() if wait is not None else None,
    )


def of_call(error: grpc.RpcError) -> Problem:
    """From a call that failed; one that reached no gateway is worth repeating soon."""
    status = rpc_status(error)
    problem = of_status(status)
    if problem.code != "UNAVAILABLE" or status.details:
        return problem
    return replace(
        problem,
        detail=f"the gateway can not be reached: {problem.detail}",
        reason="GATEWAY_UNREACHABLE",
        domain="dashboard",
        retry_after_seconds=1.0,
    )


def of_error(error: WaybillError) -> Problem:
    """From an error of our own."""
    return of_status(to_status(error, "dashboard"))
