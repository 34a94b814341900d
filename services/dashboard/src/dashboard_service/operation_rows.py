"""One operation as a row: the same values from a ListOperations answer and from an event. Pure."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as waybill_pb2

from dashboard_service.formatting import short_id, unix_ms

STATES = ("SCHEDULED", "QUEUED", "RUNNING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
_MAX_ERROR_CHARACTERS = 300
_NAME_PARTS = 3


@dataclass(frozen=True, slots=True)
class OperationRow:
    """What a table shows of one operation. Times are None where the operation has none."""

    name: str
    state: str
    task: str
    queue: str
    priority: str
    attempt: int
    max_attempts: int
    worker: str
    percent: int | None
    message: str
    error: str
    created: datetime | None
    due: datetime | None
    ended: datetime | None
    trace_id: str
    parent: str

    @property
    def service(self) -> str:
        return split_name(self.name)[0]

    @property
    def id(self) -> str:
        return split_name(self.name)[1]

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES

    def as_json(self) -> dict[str, Any]:
        """For the browser; times as Unix milliseconds, 0 where there is none."""
        times = {key: unix_ms(getattr(self, key)) for key in ("created", "due", "ended")}
        return {**asdict(self), **times, "service": self.service, "id": self.id, "short": short_id(self.id)}


def split_name(name: str) -> tuple[str, str]:
    """Service and id of `operations/{service}/{id}`; two empty strings for any other text."""
    parts = name.split("/")
    if len(parts) != _NAME_PARTS or parts[0] != "operations":
        return "", ""
    return parts[1], parts[2]


def instant(timestamp: Timestamp) -> datetime | None:
    """As an aware datetime; None for the zero timestamp, which stands for absence."""
    return timestamp.ToDatetime(tzinfo=UTC) if timestamp.seconds or timestamp.nanos else None


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """The value's name without the enum's prefix, `RUNNING`; a number that this contract does not know stays one."""
    value = enum.values_by_number.get(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix) if value else str(number)


def state_name(state: int) -> str:
    """`RUNNING`."""
    return enum_name(waybill_pb2.OperationState.DESCRIPTOR, state)


def priority_name(priority: int) -> str:
    """`NORMAL`."""
    return enum_name(waybill_pb2.Priority.DESCRIPTOR, priority)


def metadata_of(operation: operations_pb2.Operation) -> waybill_pb2.OperationMetadata:
    """Its metadata; empty where the gateway sent another type."""
    metadata = waybill_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def of_operation(operation: operations_pb2.Operation) -> OperationRow:
    """From an answer of google.longrunning.Operations."""
    metadata = metadata_of(operation)
    return OperationRow(
        name=operation.name,
        state=state_name(metadata.state),
        task=metadata.task,
        queue=metadata.queue,
        priority=priority_name(metadata.priority),
        attempt=metadata.attempt,
        max_attempts=metadata.max_attempts,
        worker=metadata.worker,
        percent=metadata.progress.percent if metadata.HasField("progress") else None,
        message=metadata.progress.message,
        error=metadata.last_error.message[:_MAX_ERROR_CHARACTERS],
        created=instant(metadata.create_time),
        due=instant(metadata.schedule_time),
        ended=instant(metadata.end_time),
        trace_id=metadata.trace_id,
        parent=metadata.parent,
    )


def of_change(change: events_pb2.OperationChanged, at: datetime | None) -> OperationRow:
    """From an event that was published at `at`."""
    state = state_name(change.state)
    return OperationRow(
        name=change.operation,
        state=state,
        task=change.task,
        queue=change.queue,
        priority=priority_name(change.priority),
        attempt=change.attempt,
        max_attempts=change.max_attempts,
        worker=change.worker,
        percent=change.progress.percent if change.HasField("progress") else None,
        message=change.progress.message,
        error=change.error_message,
        created=instant(change.create_time),
        due=instant(change.schedule_time),
        ended=at if state in FINAL_STATES else None,
        trace_id=change.trace_id,
        parent=change.parent,
    )


# What the browser copies for an operation that it has not seen; every field is filled from an event.
BLANK = of_change(events_pb2.OperationChanged(state=waybill_pb2.OPERATION_STATE_QUEUED), None)
