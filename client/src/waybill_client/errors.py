"""What a gateway refuses, as exceptions: one type for each gRPC code, with everything that AIP-193 lets it say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

M = TypeVar("M", bound=Message)

_STATUS_KEY = "grpc-status-details-bin"
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of a request; `field` is its path, `samples[3].time`."""

    field: str
    description: str


class WaybillError(Exception):
    """The gateway did not do what it was asked.

    Attributes:
        status: the google.rpc.Status as it came.
        code: its gRPC code; UNKNOWN for a number that gRPC does not have.
        message: for people.
        reason: UPPER_SNAKE, for programs; the code's name where the server gave none.
        domain: the service that refused; empty where the call reached none.
        metadata: what the reason is about.
        violations: every field that is wrong.
        retry_after: how long the server asks to wait; None where it does not say.
    """

    of_code: ClassVar[Any] = None  # a grpc.StatusCode of the types below

    def __init__(self, status: status_pb2.Status) -> None:
        info = _detail(status, error_details_pb2.ErrorInfo)
        bad = _detail(status, error_details_pb2.BadRequest)
        retry = _detail(status, error_details_pb2.RetryInfo)
        self.status = status
        self.code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        self.message: str = status.message
        self.reason: str = info.reason if info else self.code.name
        self.domain: str = info.domain if info else ""
        self.metadata: dict[str, str] = dict(info.metadata) if info else {}
        named = bad.field_violations if bad else ()
        self.violations = tuple(FieldViolation(each.field, each.description) for each in named)
        self.retry_after: timedelta | None = retry.retry_delay.ToTimedelta() if retry else None
        super().__init__(f"{self.code.name}: {self.message}")


class InvalidArgument(WaybillError):
    """The request is invalid; `violations` names every field that is."""

    of_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(WaybillError):
    """The resource does not exist."""

    of_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(WaybillError):
    """The resource exists already."""

    of_code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(WaybillError):
    """The resource is not in the state that the call needs."""

    of_code = grpc.StatusCode.FAILED_PRECONDITION


class OutOfRange(WaybillError):
    """The position lies outside of what is kept."""

    of_code = grpc.StatusCode.OUT_OF_RANGE


class CursorExpired(OutOfRange):
    """Events after this cursor are kept no longer: take `operations.page` and go on from its cursor."""


class PermissionDenied(WaybillError):
    """The caller may not do this."""

    of_code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(WaybillError):
    """The caller has not said who it is."""

    of_code = grpc.StatusCode.UNAUTHENTICATED


class Unimplemented(WaybillError):
    """The gateway does not have this method."""

    of_code = grpc.StatusCode.UNIMPLEMENTED


class ResourceExhausted(WaybillError):
    """A limit has been reached; `retry_after` says when to come again."""

    of_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(WaybillError):
    """The gateway, or the service behind it, is not there; `retry_after` says when to come again, where it is known."""

    of_code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(WaybillError):
    """The call was not answered in time. Work that was submitted may have been accepted: submit it again, same id."""

    of_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(WaybillError):
    """The call was cancelled."""

    of_code = grpc.StatusCode.CANCELLED


def from_status(status: status_pb2.Status) -> WaybillError:
    """The error of the type that fits the Status' code."""
    code = _CODES.get(status.code)
    if code is grpc.StatusCode.OUT_OF_RANGE and (info := _detail(status, error_details_pb2.ErrorInfo)):
        return CursorExpired(status) if info.reason == "CURSOR_EXPIRED" else OutOfRange(status)
    return _KINDS.get(code, WaybillError)(status) if code else WaybillError(status)


def from_call(error: grpc.RpcError) -> WaybillError:
    """The error of a call that failed; its Status has no details where the server sent none."""
    code: grpc.StatusCode = error.code()
    # The stubs say one pair; every implementation gives a sequence of them, or None.
    trailing: Any = error.trailing_metadata()
    sent = next((value for key, value in trailing or () if key == _STATUS_KEY), None)
    status = _parsed(sent) if sent is not None else None
    if status is None or status.code != code.value[0]:
        status = status_pb2.Status(code=code.value[0], message=error.details() or code.name)
    return from_status(status)


def make(code: grpc.StatusCode, message: str) -> WaybillError:
    """An error that this side finds."""
    return from_status(status_pb2.Status(code=code.value[0], message=message))


def _detail(status: status_pb2.Status, kind: type[M]) -> M | None:
    message = kind()
    return next((message for packed in status.details if packed.Unpack(message)), None)


def _parsed(value: str | bytes) -> status_pb2.Status | None:
    try:
        return status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
    except DecodeError:
        return None


_KINDS: Mapping[grpc.StatusCode, type[WaybillError]] = {
    kind.of_code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        OutOfRange,
        PermissionDenied,
        Unauthenticated,
        Unimplemented,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
    )
}
