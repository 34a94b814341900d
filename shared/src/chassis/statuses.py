"""Errors as google.rpc.Status and back (AIP-193): ErrorInfo, BadRequest, RetryInfo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from chassis import errors
from chassis.errors import FieldViolation, InvalidArgument, PermanentError, TransientError, WaybillError

STATUS_DETAILS_KEY = "grpc-status-details-bin"

M = TypeVar("M", bound=Message)

_MAX_MESSAGE_CHARACTERS = 2_000
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_KINDS: Mapping[grpc.StatusCode, type[WaybillError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        errors.NotFound,
        errors.AlreadyExists,
        errors.FailedPrecondition,
        errors.OutOfRange,
        errors.PermissionDenied,
        errors.Unauthenticated,
        errors.Unimplemented,
        errors.Cancelled,
        errors.DeadlineExceeded,
        errors.ResourceExhausted,
        errors.Unavailable,
    )
}


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """What an exception out of a task means: its Status, and whether another attempt is worth it."""

    status: status_pb2.Status
    transient: bool
    retry_after: timedelta | None = None


_TRANSIENT_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    }
)


def task_failure(error: BaseException, domain: str) -> TaskFailure:
    """Classify an exception that a task ended with; `domain` is the service's name.

    An exception of no known type is transient: the bounded number of attempts ends it.
    """
    match error:
        case WaybillError():
            return TaskFailure(to_status(error, domain), isinstance(error, errors.RetryLater), error.retry_after)
        case grpc.RpcError():
            return _rpc_failure(error, domain)
        case TransientError():
            status = make_status(grpc.StatusCode.UNAVAILABLE, str(error), domain, error.reason)
            return TaskFailure(status, transient=True, retry_after=error.retry_after)
        case PermanentError():
            status = make_status(grpc.StatusCode.FAILED_PRECONDITION, str(error), domain, error.reason)
            return TaskFailure(status, transient=False)
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    metadata = {"exception": f"{type(error).__module__}.{type(error).__qualname__}"}
    status = make_status(grpc.StatusCode.UNKNOWN, text, domain, "UNEXPECTED_ERROR", metadata)
    return TaskFailure(status, transient=True)


def to_status(error: WaybillError, domain: str) -> status_pb2.Status:
    """The error with its ErrorInfo, BadRequest and RetryInfo; an error of another service keeps that domain."""
    status = make_status(error.code, error.message, error.domain or domain, error.reason, error.metadata)
    if error.violations:
        _pack(status, _bad_request(error.violations))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        _pack(status, retry)
    return status


def from_status(status: status_pb2.Status) -> WaybillError:
    """The error that a Status describes: `to_status(from_status(s), "")` says the same as `s`."""
    code = status_code(status)
    info = detail(status, error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
    common: dict[str, Any] = {"reason": info.reason, "metadata": dict(info.metadata), "domain": info.domain}
    bad = detail(status, error_details_pb2.BadRequest)
    kind = _KINDS.get(code, WaybillError)
    if issubclass(kind, InvalidArgument):
        violations = [FieldViolation(v.field, v.description) for v in bad.field_violations] if bad else ()
        error: WaybillError = InvalidArgument(violations or status.message, **common)
        error.message = status.message or error.message
        return error
    error = kind(status.message, **common)
    error.code = code
    error.retry_after = retry_delay(status)
    return error


def make_status(
    code: grpc.StatusCode, message: str, domain: str, reason: str, metadata: Mapping[str, str] | None = None
) -> status_pb2.Status:
    """A Status with an ErrorInfo."""
    status = status_pb2.Status(code=code.value[0], message=message[:_MAX_MESSAGE_CHARACTERS])
    _pack(status, error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata or {}))
    return status


def rpc_status(error: grpc.RpcError) -> status_pb2.Status:
    """The Status that a failed call carries; without details where the server sent none."""
    code = error.code()
    # The stubs say one pair; every implementation gives a sequence of them, or None.
    trailing: Any = error.trailing_metadata()
    for key, value in trailing or ():
        if key == STATUS_DETAILS_KEY:
            status = _parsed(value)
            if status is not None and status.code == code.value[0]:
                return status
    return status_pb2.Status(code=code.value[0], message=error.details() or code.name)


def status_code(status: status_pb2.Status) -> grpc.StatusCode:
    """Its code; UNKNOWN for a number that gRPC does not have."""
    return _CODES.get(status.code, grpc.StatusCode.UNKNOWN)


def reason_of(status: status_pb2.Status) -> str:
    """The ErrorInfo's reason; the name of the code where there is none."""
    info = detail(status, error_details_pb2.ErrorInfo)
    return info.reason if info else status_code(status).name


def retry_delay(status: status_pb2.Status) -> timedelta | None:
    """How long the server asks to wait; None where it does not say."""
    retry = detail(status, error_details_pb2.RetryInfo)
    return retry.retry_delay.ToTimedelta() if retry else None


def detail(status: status_pb2.Status, kind: type[M]) -> M | None:
    """The first detail of that message type."""
    message = kind()
    return next((message for packed in status.details if packed.Unpack(message)), None)


def violations_of(status: status_pb2.Status) -> tuple[FieldViolation, ...]:
    """The field violations of its BadRequest."""
    bad = detail(status, error_details_pb2.BadRequest)
    return tuple(FieldViolation(v.field, v.description) for v in bad.field_violations) if bad else ()


def _rpc_failure(error: grpc.RpcError, domain: str) -> TaskFailure:
    status = rpc_status(error)
    if detail(status, error_details_pb2.ErrorInfo) is None:
        status = make_status(status_code(status), status.message, domain, "RPC_FAILED")
    return TaskFailure(status, status_code(status) in _TRANSIENT_CODES, retry_delay(status))


def _bad_request(violations: Sequence[FieldViolation]) -> error_details_pb2.BadRequest:
    named = (error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description) for v in violations)
    return error_details_pb2.BadRequest(field_violations=named)


def _pack(status: status_pb2.Status, message: Message) -> None:
    status.details.add().Pack(message)


def _parsed(value: str | bytes) -> status_pb2.Status | None:
    try:
        return status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
    except DecodeError:
        return None
