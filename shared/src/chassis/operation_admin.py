"""OperationService: what concerns many operations of a service at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final, Literal

from google.protobuf.duration_pb2 import Duration
from grpc import aio
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc

from chassis import filters, store_calls
from chassis.archive_stats import STATS_LIMIT, Latencies, Span, Stats, TooManyError, stats_of
from chassis.descriptions import timestamp
from chassis.errors import OutOfRange, Violations
from chassis.filters import Expression
from chassis.operations import Operations
from chassis.store_calls import microseconds
from chassis.store_sweeps import live_matches, not_archived
from chassis.telemetry import now_us

CANCEL_DEFAULT: Final = 1_000
CANCEL_LIMIT: Final = 10_000
DEFAULT_SPAN: Final = timedelta(hours=1)
DEFAULT_STEP: Final = timedelta(minutes=1)
MAX_STEPS: Final = 1_440
MAX_STEP: Final = timedelta(days=366)
_MINUTE_US: Final = 60_000_000


class OperationServicer(admin_pb2_grpc.OperationServiceServicer):
    """Statistics, and cancelling by filter."""

    def __init__(self, operations: Operations, *, archived_within: timedelta | None) -> None:
        """`archived_within`: as `not_archived` has it."""
        self._operations = operations
        self._archived_within = archived_within

    async def GetOperationStats(
        self, request: admin_pb2.GetOperationStatsRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.GetOperationStatsResponse:
        """Each operation once: the store is read first, then the archive in one snapshot, without what it has, too."""
        expression, span = filters.read(request.filter), span_of(request)
        archive = self._operations.archive
        others = await not_archived(
            self._operations.store,
            expression,
            span,
            archived_within=None if archive is None else self._archived_within,
        )
        try:
            if archive is None:
                stats = await asyncio.to_thread(stats_of, span, list(others.values()))
            else:
                stats = await asyncio.to_thread(archive.stats, span, expression, others)
        except TooManyError:
            raise OutOfRange(
                f"more than {STATS_LIMIT:,} operations ended between start_time and end_time; ask for less",
                reason="TOO_MANY_OPERATIONS",
            ) from None
        return admin_pb2.GetOperationStatsResponse(stats=map(describe_stats, stats))

    async def CancelOperations(
        self, request: admin_pb2.CancelOperationsRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.CancelOperationsResponse:
        """A call that ends early has cancelled the oldest; the same call once more goes on."""
        expression = _wanted(request)
        limit = request.limit or CANCEL_DEFAULT
        store, cancelled = self._operations.store, 0
        async for ids in live_matches(store, expression):
            if cancelled == limit and ids:
                return admin_pb2.CancelOperationsResponse(cancelled=cancelled, more=True)
            part = ids[: limit - cancelled]
            answers = await store.run(store_calls.cancel(part)) if part else []
            cancelled += sum(answer.verdict in {"cancelled", "requested"} for answer in answers)
            if len(ids) > len(part):
                return admin_pb2.CancelOperationsResponse(cancelled=cancelled, more=True)
        return admin_pb2.CancelOperationsResponse(cancelled=cancelled)


def _wanted(request: admin_pb2.CancelOperationsRequest) -> Expression:
    found = Violations()
    found.require(request.filter.strip(), "filter", "is required: nobody means all operations")
    found.require(
        0 <= request.limit <= CANCEL_LIMIT, "limit", f"must be 1 to {CANCEL_LIMIT:,}, or 0 for {CANCEL_DEFAULT:,}"
    )
    found.raise_if_any()
    return filters.read(request.filter)


def span_of(request: admin_pb2.GetOperationStatsRequest) -> Span:
    """The time that is asked for; raises InvalidArgument with every violation."""
    found = Violations()
    end_us = _microseconds_of(request, "end_time", found, absent=now_us())
    start_us = _microseconds_of(request, "start_time", found, absent=end_us - microseconds(DEFAULT_SPAN))
    step_us = _microseconds_of(request, "step", found, absent=microseconds(DEFAULT_STEP))
    found.raise_if_any()
    found.require(start_us >= 0, "start_time", "is before 1970")
    found.require(start_us < end_us, "start_time", "must be before end_time")
    minutes = found.require(step_us > 0 and step_us % _MINUTE_US == 0, "step", "must be a whole number of minutes")
    found.require(step_us <= microseconds(MAX_STEP), "step", f"must be at most {MAX_STEP.days} days")
    if minutes and end_us - start_us > MAX_STEPS * step_us:
        found.add("step", f"gives more than {MAX_STEPS:,} steps between start_time and end_time")
    found.raise_if_any()
    return Span(start_us, end_us, step_us)


def _microseconds_of(
    request: admin_pb2.GetOperationStatsRequest,
    field: Literal["end_time", "start_time", "step"],
    found: Violations,
    *,
    absent: int,
) -> int:
    if not request.HasField(field):
        return absent
    try:
        return int(getattr(request, field).ToMicroseconds())
    except ValueError:
        found.add(field, "is out of range")
        return absent


def describe_stats(stats: Stats) -> admin_pb2.OperationStats:
    """As clients see them."""
    described = admin_pb2.OperationStats(
        start_time=timestamp(stats.start_us),
        task=stats.task,
        state=stats.state,  # type: ignore[arg-type]
        count=stats.count,
        attempts=stats.attempts,
        total=_latency(stats.total),
    )
    if stats.wait is not None:
        described.wait.CopyFrom(_latency(stats.wait))
    return described


def _latency(latencies: Latencies) -> admin_pb2.Latency:
    return admin_pb2.Latency(
        mean=_duration(latencies.mean_us),
        p50=_duration(latencies.p50_us),
        p95=_duration(latencies.p95_us),
        max=_duration(latencies.max_us),
    )


def _duration(microseconds_: int) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(microseconds_)
    return duration
