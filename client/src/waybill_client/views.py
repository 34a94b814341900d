"""What a client sees of operations and events, typed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as waybill_pb2

from waybill_client import contracts, errors

SNAPSHOT = "snapshot"


class State(StrEnum):
    """Of an operation; docs/operation-lifecycle.md tells how one leads to another."""

    UNSPECIFIED = "UNSPECIFIED"
    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def final(self) -> bool:
        """Whether it never changes any more."""
        return self in _FINAL

    @classmethod
    def of(cls, number: waybill_pb2.OperationState.ValueType) -> Self:
        """From the contract's enum."""
        return cls(waybill_pb2.OperationState.Name(number).removeprefix("OPERATION_STATE_"))


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


@dataclass(frozen=True, slots=True)
class Progress:
    """As the task reported it: `percent` from 0 to 100."""

    percent: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to an operation.

    Attributes:
        operation: its name.
        kind: the event's verb (docs/events.md): accepted, began, progressed, retried, succeeded and so on; `snapshot`
            for how it stood when following began, and after an outage so long that events are kept no longer.
        state: after it.
        attempt: number of the current or last attempt; 0 before the first.
        max_attempts: the first one included.
        progress: None until the task has reported.
        time: when it happened; of a snapshot, when the operation last changed, as far as it tells.
        error_message: of the last error; empty for none.
        task: registered name, `reports.render_report`.
        queue: `reports.default`.
        worker: empty where none is involved.
        cursor: a position of the service's events to go on from; empty for a snapshot.
    """

    operation: str
    kind: str
    state: State
    attempt: int
    max_attempts: int
    progress: Progress | None
    time: datetime
    error_message: str = ""
    task: str = ""
    queue: str = ""
    worker: str = ""
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """One answer of a subscription.

    Attributes:
        event: None for a heartbeat.
        cursor: the position behind it.
    """

    event: events_pb2.Event | None
    cursor: str

    @property
    def change(self) -> Change | None:
        """What happened to an operation; None for heartbeats and other events."""
        data = events_pb2.OperationChanged()
        if self.event is None or not self.event.data.Unpack(data):
            return None
        return Change(
            operation=data.operation or self.event.subject,
            kind=self.event.type.rpartition(".")[2],
            state=State.of(data.state),
            attempt=data.attempt,
            max_attempts=data.max_attempts,
            progress=Progress(data.progress.percent, data.progress.message) if data.HasField("progress") else None,
            time=self.event.time.ToDatetime(UTC),
            error_message=data.error_message,
            task=data.task,
            queue=data.queue,
            worker=data.worker,
            cursor=self.cursor,
        )


class OperationView:
    """An operation as it stood when it was last read; the handles of both kinds of client begin with it."""

    def __init__(self, message: operations_pb2.Operation) -> None:
        self._show(message)

    def _show(self, message: operations_pb2.Operation) -> None:
        self._message = message
        self._metadata = metadata_of(message)

    @property
    def message(self) -> operations_pb2.Operation:
        """In the contract's own form."""
        return self._message

    @property
    def name(self) -> str:
        """`operations/{service}/{id}`."""
        return self._message.name

    @property
    def done(self) -> bool:
        """Whether its state is final."""
        return self._message.done

    @property
    def state(self) -> State:
        return State.of(self._metadata.state)

    @property
    def metadata(self) -> waybill_pb2.OperationMetadata:
        """Attempts, progress, times, labels, trace_id and the rest; empty of a handle that was made from a name."""
        return self._metadata

    @property
    def error(self) -> errors.WaybillError | None:
        """Why it ended without a result; None while it runs and when it succeeded."""
        return errors.from_status(self._message.error) if self._message.HasField("error") else None

    @property
    def response(self) -> Message | None:
        """The result, unpacked; None until it has succeeded. Raises TypeError for a type of no installed contract."""
        return contracts.unpacked(self._message.response) if self._message.HasField("response") else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.state}>"


def metadata_of(operation: operations_pb2.Operation) -> waybill_pb2.OperationMetadata:
    """The metadata that every Waybill operation carries."""
    metadata = waybill_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def snapshot(operation: operations_pb2.Operation) -> Change:
    """How an operation stands, as a change of kind `snapshot`."""
    metadata = metadata_of(operation)
    times = [metadata.create_time, metadata.end_time, *(each.begin_time for each in metadata.attempts)]
    times += [each.end_time for each in metadata.attempts]
    shown = metadata.progress
    return Change(
        operation=operation.name,
        kind=SNAPSHOT,
        state=State.of(metadata.state),
        attempt=metadata.attempt,
        max_attempts=metadata.max_attempts,
        progress=Progress(shown.percent, shown.message) if metadata.HasField("progress") else None,
        time=max(each.ToDatetime(UTC) for each in times),
        error_message=metadata.last_error.message,
        task=metadata.task,
        queue=metadata.queue,
        worker=metadata.worker,
    )


def includes(metadata: waybill_pb2.OperationMetadata, change: Change) -> bool:
    """Whether a snapshot that was taken beside the stream shows already what this event tells.

    Instants are compared to the millisecond: an event and the operation's own record have them from one clock reading.
    """
    settled = _last_end(metadata) >= _milliseconds(change.time)
    match change.kind:
        case "accepted":
            return True
        case "began":
            return _last_begin(metadata, change.attempt) >= _milliseconds(change.time)
        case "retried" | "lost" | "returned" | "fanned_out":
            return settled
        case "queued" | "parked":
            return settled or State.of(metadata.state) not in {State.SCHEDULED, State.RETRYING}
        case "progressed":
            return metadata.attempt > change.attempt or _percent(metadata) >= (change.progress or Progress(0)).percent
        case _:
            return change.kind == "cancel_requested" and metadata.cancel_requested


def _last_begin(metadata: waybill_pb2.OperationMetadata, number: int) -> int:
    begun = (each.begin_time.ToMilliseconds() for each in metadata.attempts if each.number == number)
    return max(begun, default=-1)


def _percent(metadata: waybill_pb2.OperationMetadata) -> int:
    return metadata.progress.percent if metadata.HasField("progress") else -1


def _last_end(metadata: waybill_pb2.OperationMetadata) -> int:
    ended = (each.end_time.ToMilliseconds() for each in metadata.attempts if each.HasField("end_time"))
    return max(ended, default=-1)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
