"""The attempts of an operation as bars on one line of time. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.rpc import status_pb2
from waybill.operations.v1 import operations_pb2

from dashboard_service.operation_rows import enum_name, instant

OUTCOMES = ("RUNNING", "SUCCEEDED", "RETRIED", "FAILED", "CANCELLED", "LOST", "RETURNED", "FANNED_OUT")


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt; `left` and `right` are percent of the timeline."""

    number: int
    outcome: str
    worker: str
    begin: datetime | None
    end: datetime | None
    duration: timedelta
    waited: timedelta
    left: float
    right: float
    span_id: str
    error: status_pb2.Status | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """From acceptance to the final state, or to now."""

    start: datetime
    end: datetime
    bars: Sequence[Bar]


def build(metadata: operations_pb2.OperationMetadata, now: datetime) -> Timeline | None:
    """None where the operation does not say when it was accepted."""
    start = instant(metadata.create_time)
    if start is None:
        return None
    ends = [instant(attempt.end_time) or now for attempt in metadata.attempts]
    end = instant(metadata.end_time) or max([now, *ends])
    length = max(end - start, timedelta(milliseconds=1))
    bars: list[Bar] = []
    free_since = start
    for attempt, ended in zip(metadata.attempts, ends, strict=True):
        begin = instant(attempt.begin_time) or start
        bars.append(_bar(attempt, begin, ended, free_since, (start, length)))
        free_since = ended
    return Timeline(start=start, end=end, bars=bars)


def _bar(
    attempt: operations_pb2.Attempt,
    begin: datetime,
    ended: datetime,
    free_since: datetime,
    scale: tuple[datetime, timedelta],
) -> Bar:
    start, length = scale
    return Bar(
        number=attempt.number,
        outcome=outcome_name(attempt),
        worker=attempt.worker,
        begin=begin,
        end=instant(attempt.end_time),
        duration=max(ended - begin, timedelta()),
        waited=max(begin - free_since, timedelta()),
        left=_percent(begin - start, length),
        right=_percent(ended - start, length),
        span_id=attempt.span_id,
        error=attempt.error if attempt.HasField("error") else None,
    )


def outcome_name(attempt: operations_pb2.Attempt) -> str:
    """`RETRIED`; `RUNNING` for an attempt that has not ended."""
    if attempt.outcome == operations_pb2.ATTEMPT_OUTCOME_UNSPECIFIED:
        return "RUNNING"
    return enum_name(operations_pb2.AttemptOutcome.DESCRIPTOR, attempt.outcome)


def _percent(part: timedelta, whole: timedelta) -> float:
    return round(min(100.0, max(0.0, 100 * (part / whole))), 3)
