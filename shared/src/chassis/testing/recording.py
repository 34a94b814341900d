"""An attempt for unit tests of tasks: no store, and everything that the task did with it on record."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.message import Message
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.acceptance import Acceptable, Provenance, Submission, acceptance, new_operation_id
from chassis.attempts import Attempt
from chassis.descriptions import operation_name
from chassis.errors import Cancelled, DeadlineExceeded, PermanentError
from chassis.store_calls import fingerprint
from chassis.telemetry import SpanContext

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

DEFAULT_TIMEOUT: Final = timedelta(minutes=5)
_CHILDREN: Final = uuid.UUID("2b1f0e1c-6f0e-5d8a-9a55-0d7e0b8d7c11")


@dataclass(frozen=True, slots=True)
class _Unconnected:
    """Stands where an attempt's app does; it has a name and no store."""

    service: str


class RecordedAttempt(Attempt):
    """An Attempt that keeps what the task reports and accepts instead of sending it.

    `progressed`: (percent, message) of every report, repeated ones included, which a store may never see.
    `accepted`: (task, request, key) of every child, once per key.
    """

    def __init__(
        self,
        *,
        service: str,
        record: store_pb2.OperationRecord,
        number: int,
        max_attempts: int,
        span: SpanContext,
        deadline: datetime,
    ) -> None:
        super().__init__(
            app=cast("ServiceApp", _Unconnected(service)),
            record=record,
            number=number,
            max_attempts=max_attempts,
            token="recorded",  # noqa: S106 (no secret: nothing is settled with it)
            span=span,
            timeout=DEFAULT_TIMEOUT,
        )
        self.deadline = deadline
        self.progressed: list[tuple[int, str]] = []
        self.accepted: list[tuple[Acceptable, Message, str]] = []
        self._children: dict[str, str] = {}

    def cancel(self) -> None:
        """A client asks for cancellation: the next `check` or `progress` raises Cancelled."""
        self.stop(Cancelled("a client asked for cancellation"))

    def progress(self, percent: int, message: str = "") -> None:
        self.progressed.append((min(100, max(0, percent)), message))
        self.check()

    def check(self) -> None:
        if self.stopped is not None:
            raise self.stopped
        if datetime.now(UTC) >= self.deadline:
            raise DeadlineExceeded("the attempt has used up its timeout", reason="ATTEMPT_TIMEOUT")

    def accept(
        self,
        task: Acceptable,
        request: Message,
        *,
        key: str,
        labels: Mapping[str, str] | None = None,
        priority: int = ops.PRIORITY_UNSPECIFIED,
    ) -> str:
        """The child's name: the same for a key, also over attempts of one operation. Refuses what the store would."""
        submission = Submission(
            task, request, request_id=key, labels=labels or {}, parent=self.operation, priority=priority
        )
        content = fingerprint(acceptance(submission, Provenance("", "child", SpanContext.new_root())).record)
        if self._children.setdefault(key, content) != content:
            raise PermanentError(f"key {key!r} names two different children", reason="CHILD_KEY_REUSED")
        if key not in {known for _, _, known in self.accepted}:
            copied = type(request)()
            copied.CopyFrom(request)
            self.accepted.append((task, copied, key))
        child = uuid.uuid5(_CHILDREN, f"{self.operation_id}/{key}")
        return operation_name(self.app.service, str(child))


def attempt(  # noqa: PLR0913 (facts of an attempt, all named)
    *,
    service: str = "test",
    operation_id: str = "",
    effect_id: str = "",
    number: int = 1,
    max_attempts: int = 5,
    deadline: datetime | None = None,
    traceparent: str = "",
    labels: Mapping[str, str] | None = None,
    parent: str = "",
    request_id: str = "",
    cancelled: bool = False,
) -> RecordedAttempt:
    """An attempt to call a task with: `render_report.run(attempt(), request)`.

    Args:
        service: the owner of the operation's name, `operations/{service}/{id}`.
        operation_id: a new UUIDv7 unless given.
        effect_id: the operation's id unless given; an unedited replay has the original's.
        number: which attempt, from 1.
        max_attempts: the first included.
        deadline: five minutes from now unless given.
        traceparent: a trace of its own unless given.
        labels: the operation's.
        parent: name of the operation that fanned out to this one.
        request_id: the one that it was accepted under.
        cancelled: whether a client has asked for cancellation already.
    """
    id_ = operation_id or new_operation_id()
    record = store_pb2.OperationRecord(
        id=id_, effect_id=effect_id or id_, labels=labels or {}, parent=parent, request_id=request_id
    )
    made = RecordedAttempt(
        service=service,
        record=record,
        number=number,
        max_attempts=max_attempts,
        span=SpanContext.parse(traceparent) or SpanContext.new_root(),
        deadline=deadline or datetime.now(UTC) + DEFAULT_TIMEOUT,
    )
    if cancelled:
        made.cancel()
    return made
