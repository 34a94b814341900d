"""Operations as clients see them, read from the store's hashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.redaction import redacted

#: States that never change.
FINAL: Final = frozenset(
    {
        ops.OPERATION_STATE_SUCCEEDED,
        ops.OPERATION_STATE_FAILED,
        ops.OPERATION_STATE_CANCELLED,
        ops.OPERATION_STATE_EXPIRED,
    }
)

StoredOperation = Mapping[bytes, bytes]


def operation_name(service: str, operation_id: str) -> str:
    """`operations/{service}/{id}`."""
    return f"operations/{service}/{operation_id}"


def state_name(state: int) -> str:
    """`SUCCEEDED` for OPERATION_STATE_SUCCEEDED."""
    return ops.OperationState.Name(state).removeprefix("OPERATION_STATE_")  # type: ignore[arg-type]


def timestamp(microseconds: int) -> Timestamp:
    """Unix microseconds as a Timestamp."""
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)


def set_time(stamp: Timestamp, microseconds: int) -> None:
    """Unix microseconds into a Timestamp where it lies."""
    stamp.seconds, stamp.nanos = microseconds // 1_000_000, microseconds % 1_000_000 * 1000


def record_of(stored: StoredOperation) -> store_pb2.OperationRecord:
    """What was fixed at acceptance."""
    return store_pb2.OperationRecord.FromString(stored[b"rec"])


def describe(service: str, stored: StoredOperation, *, brief: bool = False) -> operations_pb2.Operation:
    """The google.longrunning.Operation; `brief` leaves the payload and the attempts out."""
    record = record_of(stored)
    metadata = metadata_of(service, stored, record, brief=brief)
    operation = operations_pb2.Operation(name=operation_name(service, record.id))
    operation.metadata.Pack(metadata)
    if metadata.state in FINAL:
        operation.done = True
        if metadata.state == ops.OPERATION_STATE_SUCCEEDED:
            operation.response.CopyFrom(AnyMessage.FromString(stored.get(b"res", b"")))
        else:
            operation.error.CopyFrom(metadata.last_error)
    return operation


def metadata_of(
    service: str, stored: StoredOperation, record: store_pb2.OperationRecord, *, brief: bool
) -> ops.OperationMetadata:
    """The metadata; `brief` leaves the payload and the attempts out."""
    metadata = ops.OperationMetadata(
        state=number(stored, b"st"),  # type: ignore[arg-type]
        task=record.task,
        queue=text(stored, b"q"),
        priority=number(stored, b"pr"),  # type: ignore[arg-type]
        attempt=number(stored, b"at"),
        max_attempts=number(stored, b"max"),
        create_time=timestamp(number(stored, b"ct")),
        trace_id=record.trace.trace_id.hex(),
        request_id=record.request_id,
        labels=record.labels,
        parent=record.parent,
        replayed_from=record.replayed_from,
        worker=text(stored, b"w"),
        cancel_requested=stored.get(b"cn") == b"1",
    )
    _add_times(metadata, stored, record)
    _add_what_happened(metadata, service, stored)
    if not brief:
        metadata.request.CopyFrom(redacted(record.request))
        metadata.attempts.extend(attempts_of(service, stored))
    return metadata


def _add_times(metadata: ops.OperationMetadata, stored: StoredOperation, record: store_pb2.OperationRecord) -> None:
    for name, key in (("schedule_time", b"due"), ("start_time", b"start"), ("end_time", b"et")):
        if number(stored, key):
            getattr(metadata, name).CopyFrom(timestamp(number(stored, key)))
    if record.expire_time_us:
        metadata.expire_time.CopyFrom(timestamp(record.expire_time_us))


def _add_what_happened(metadata: ops.OperationMetadata, service: str, stored: StoredOperation) -> None:
    if b"kids" in stored:
        metadata.children.CopyFrom(children_of(stored))
    if b"rep" in stored:
        metadata.replayed_by = operation_name(service, text(stored, b"rep"))
    if b"pct" in stored:
        metadata.progress.percent = number(stored, b"pct")
        metadata.progress.message = text(stored, b"msg")
    if metadata.state != ops.OPERATION_STATE_SUCCEEDED and number(stored, b"ec"):
        code, message, reason = number(stored, b"ec"), text(stored, b"em"), text(stored, b"er")
        metadata.last_error.CopyFrom(error_of(service, stored.get(b"err", b""), code, message, reason))


def attempts_of(service: str, stored: StoredOperation) -> list[ops.Attempt]:
    """Every attempt that is on record, a returned one included until its number is used again."""
    attempts = []
    for n in range(1, number(stored, b"at") + 2):
        begun = stored.get(b"a%d" % n)
        if begun is None:
            continue
        begin, span, worker = begun.decode().split("|", 2)
        attempt = ops.Attempt(number=n, begin_time=timestamp(int(begin)), worker=worker, span_id=span)
        ended = stored.get(b"a%dz" % n)
        if ended is not None:
            end, outcome = ended.decode().split("|")
            attempt.end_time.CopyFrom(timestamp(int(end)))
            attempt.outcome = int(outcome)  # type: ignore[assignment]
        cause = stored.get(b"a%dc" % n)
        if cause is not None:
            code, reason, message = cause.decode().split("|", 2)
            attempt.error.CopyFrom(error_of(service, stored.get(b"a%de" % n, b""), int(code), message, reason))
        attempts.append(attempt)
    return attempts


def children_of(stored: StoredOperation) -> ops.ChildrenSummary:
    """How the children of a fan-out stand."""
    return ops.ChildrenSummary(
        total=number(stored, b"kids"),
        succeeded=number(stored, b"k5"),
        failed=number(stored, b"k6"),
        cancelled=number(stored, b"k7"),
        expired=number(stored, b"k8"),
    )


def error_of(service: str, serialized: bytes, code: int, message: str, reason: str) -> status_pb2.Status:
    """The Status as the attempt wrote it, or composed where the store itself ended the attempt."""
    if serialized:
        return status_pb2.Status.FromString(serialized)
    status = status_pb2.Status(code=code or int(code_pb2.UNKNOWN), message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason or "UNKNOWN", domain=service))
    return status


def dead_letter_group(stored: StoredOperation) -> str:
    """Task and reason: dead letters of one group failed alike. Empty for what is no dead letter, or is discarded."""
    if number(stored, b"st") != ops.OPERATION_STATE_FAILED or b"dis" in stored:
        return ""
    return f"{text(stored, b'task')}/{text(stored, b'er') or 'UNKNOWN'}"


def number(stored: StoredOperation, key: bytes) -> int:
    """A whole number; 0 when the field is absent."""
    return int(stored.get(key) or 0)


def text(stored: StoredOperation, key: bytes) -> str:
    """A text; empty when the field is absent."""
    return stored.get(key, b"").decode()
