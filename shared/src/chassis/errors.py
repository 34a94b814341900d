"""Errors that reach a client, and errors that a task ends with.

The docstring of an error is its default message; its reason is what a client may rely on.
`chassis.statuses` turns both kinds into google.rpc.Status and back.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of a request; `field` is its path, `samples[3].time`."""

    field: str
    description: str


class WaybillError(Exception):
    """The service failed."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL
    reason: str = "INTERNAL"
    retry_after: timedelta | None = None

    def __init__(
        self, message: str = "", *, reason: str = "", metadata: Mapping[str, str] | None = None, domain: str = ""
    ) -> None:
        self.message = message or _default_message(type(self))
        self.reason = reason or type(self).reason
        self.metadata = dict(metadata or {})
        self.domain = domain
        super().__init__(self.message)

    @property
    def violations(self) -> tuple[FieldViolation, ...]:
        """Every field that is wrong; empty for errors that are not about fields."""
        return ()


class InvalidArgument(WaybillError):
    """The request is invalid."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(
        self,
        violations: Sequence[FieldViolation] | str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        domain: str = "",
    ) -> None:
        message = violations if isinstance(violations, str) else _summary(violations)
        super().__init__(message, reason=reason, metadata=metadata, domain=domain)
        self._violations = () if isinstance(violations, str) else tuple(violations)

    @property
    def violations(self) -> tuple[FieldViolation, ...]:
        return self._violations


class NotFound(WaybillError):
    """The resource does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExists(WaybillError):
    """The resource exists already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class FailedPrecondition(WaybillError):
    """The resource is not in the state that the call needs."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class OutOfRange(WaybillError):
    """The position lies outside of what is kept."""

    code = grpc.StatusCode.OUT_OF_RANGE
    reason = "OUT_OF_RANGE"


class PermissionDenied(WaybillError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class Unauthenticated(WaybillError):
    """The caller has not said who it is."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class Unimplemented(WaybillError):
    """The method is not implemented."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"


class Cancelled(WaybillError):
    """The operation was cancelled."""

    code = grpc.StatusCode.CANCELLED
    reason = "CANCELLED"


class DeadlineExceeded(WaybillError):
    """The deadline has passed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class RetryLater(WaybillError):
    """The service cannot do this now."""

    default_retry_after: ClassVar[timedelta] = timedelta(seconds=1)

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: timedelta | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        domain: str = "",
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata, domain=domain)
        self.retry_after = self.default_retry_after if retry_after is None else retry_after


class ResourceExhausted(RetryLater):
    """A limit has been reached; try again later."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RESOURCE_EXHAUSTED"


class Unavailable(RetryLater):
    """The service is not available; try again later."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class Violations:
    """Collects what is wrong with a request, so that the client learns all of it at once."""

    def __init__(self) -> None:
        self.found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        self.found.append(FieldViolation(field, description))

    def require(self, condition: object, field: str, description: str) -> bool:
        """Record a violation unless the condition holds; returns whether it holds."""
        if not condition:
            self.add(field, description)
        return bool(condition)

    def raise_if_any(self) -> None:
        """Raise InvalidArgument with every violation found so far."""
        if self.found:
            raise InvalidArgument(self.found)


class TransientError(Exception):
    """The attempt failed; another one may succeed."""

    def __init__(
        self, message: str = "", retry_after: timedelta | None = None, *, reason: str = "TRANSIENT_ERROR"
    ) -> None:
        super().__init__(message or _default_message(type(self)))
        self.retry_after = retry_after
        self.reason = reason


class PermanentError(Exception):
    """The attempt failed; another one would fail alike."""

    def __init__(self, message: str = "", *, reason: str = "PERMANENT_ERROR") -> None:
        super().__init__(message or _default_message(type(self)))
        self.reason = reason


def _default_message(kind: type[Exception]) -> str:
    return inspect.cleandoc(kind.__doc__ or kind.__name__).partition("\n")[0].removesuffix(".")


def _summary(violations: Sequence[FieldViolation]) -> str:
    return "; ".join(f"{v.field}: {v.description}" for v in violations) or "the request is invalid"
