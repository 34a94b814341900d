"""The metrics service, asked over gRPC; its messages become values of ours here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import cached_property

import grpc
from chassis.errors import PermanentError
from chassis.statuses import reason_of, rpc_status
from google.protobuf.timestamp_pb2 import Timestamp
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from reports_service.documents import Sample, Series
from reports_service.incident import Incident
from reports_service.queries import Answer, KnownSeries, Query

ALERT_RESOLVED = "waybill.metrics.alert.resolved"

_STEPS: Mapping[int, timedelta] = {
    metrics_pb2.RESOLUTION_10_SECONDS: timedelta(seconds=10),
    metrics_pb2.RESOLUTION_1_MINUTE: timedelta(minutes=1),
    metrics_pb2.RESOLUTION_1_HOUR: timedelta(hours=1),
}
_MAX_CALL = timedelta(seconds=10)
_SIDE_BY_SIDE = 6
_PAGE_SIZE = 1_000
_MAX_PAGES = 5


class SeriesNotFound(PermanentError):
    """The metrics service has never seen this metric."""

    def __init__(self, metric: str) -> None:
        super().__init__(f"metric {metric!r} has never been seen by the metrics service", reason="SERIES_NOT_FOUND")


class Metrics:
    """What reports asks of the metrics service. No call outlasts `deadline`, nor 10 s.

    `channel` is called at the first question: a report without a chart needs no metrics service.
    """

    def __init__(self, channel: Callable[[], grpc.Channel]) -> None:
        self._channel = channel

    @cached_property
    def _stub(self) -> metrics_pb2_grpc.MetricsServiceStub:
        return metrics_pb2_grpc.MetricsServiceStub(self._channel())

    def answer(self, query: Query, deadline: datetime) -> Answer:
        """The series of a query; raises SeriesNotFound for a metric that was never seen."""
        try:
            response = self._stub.QuerySeries(_request(query), timeout=_left(deadline))
        except grpc.RpcError as error:
            if reason_of(rpc_status(error)) == "SERIES_NOT_FOUND":
                raise SeriesNotFound(query.metric) from error
            raise
        series = tuple(map(_series, response.series))
        return Answer(series, _STEPS.get(response.resolution, timedelta(0)), response.omitted_series)

    def answers(self, queries: Sequence[Query], deadline: datetime, done: Callable[[int], None]) -> list[Answer]:
        """The answers to all queries, asked side by side; `done` hears, in this thread, how many have come in."""
        return self._side_by_side(lambda query: self.answer(query, deadline), queries, done)

    def samples_of(self, queries: Sequence[Query], deadline: datetime, done: Callable[[int], None]) -> list[Answer]:
        """As `answers`, but a metric that was never seen has no series."""

        def ask(query: Query) -> Answer:
            try:
                return self.answer(query, deadline)
            except SeriesNotFound:
                return Answer(())

        return self._side_by_side(ask, queries, done)

    def known(self, prefixes: Iterable[str], deadline: datetime) -> tuple[KnownSeries, ...]:
        """The series whose metric begins with one of the prefixes, at most 5,000 for each."""
        return tuple(_known(info) for prefix in prefixes for info in self._listed(prefix, deadline))

    def _listed(self, prefix: str, deadline: datetime) -> Iterator[metrics_pb2.SeriesInfo]:
        token = ""
        for _ in range(_MAX_PAGES):
            request = metrics_pb2.ListSeriesRequest(metric_prefix=prefix, page_size=_PAGE_SIZE, page_token=token)
            response = self._stub.ListSeries(request, timeout=_left(deadline))
            yield from response.series
            token = response.next_page_token
            if not token:
                return

    def _side_by_side(
        self, ask: Callable[[Query], Answer], queries: Sequence[Query], done: Callable[[int], None]
    ) -> list[Answer]:
        if not queries:
            return []
        with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(queries)), "fetch") as pool:
            # The trace is in the context, which a thread does not inherit.
            asked: list[Future[Answer]] = [pool.submit(copy_context().run, ask, query) for query in queries]
            try:
                for count, future in enumerate(as_completed(asked), start=1):
                    future.result()
                    done(count)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return [future.result() for future in asked]


def resolved_alert(event: events_pb2.Event) -> metrics_pb2.Alert | None:
    """The alert that the event says is resolved; None for any other event."""
    resolved = metrics_pb2.AlertResolved()
    return resolved.alert if event.type == ALERT_RESOLVED and event.data.Unpack(resolved) else None


def incident_of(alert: metrics_pb2.Alert) -> Incident:
    """A resolved alert as a value; raises PermanentError (ALERT_NOT_RESOLVED) for any other."""
    if not (alert.HasField("breach_time") and alert.HasField("resolve_time")):
        raise PermanentError(f"alert {alert.alert_id!r} is not resolved", reason="ALERT_NOT_RESOLVED")
    return Incident(
        alert_id=alert.alert_id,
        rule_id=alert.rule_id,
        name=alert.display_name or alert.rule_id,
        metric=alert.metric,
        labels=dict(alert.labels),
        annotations=dict(alert.annotations),
        above=alert.comparison != metrics_pb2.COMPARISON_BELOW,
        threshold=alert.threshold,
        worst=alert.worst_value,
        began=_moment(alert.breach_time),
        fired=_moment(alert.fire_time if alert.HasField("fire_time") else alert.breach_time),
        resolved=_moment(alert.resolve_time),
        trace_id=alert.trace_id,
    )


def _request(query: Query) -> metrics_pb2.QuerySeriesRequest:
    request = metrics_pb2.QuerySeriesRequest(metric=query.metric)
    request.start_time.FromDatetime(query.window.start)
    request.end_time.FromDatetime(query.window.end)
    request.aggregation = metrics_pb2.TimeAggregation.ValueType(query.aggregation)
    for matcher in query.matchers:
        operator = metrics_pb2.MatchOperator.ValueType(matcher.operator)
        request.matchers.add(label=matcher.label, value=matcher.value, operator=operator)
    return request


def _series(series: metrics_pb2.Series) -> Series:
    # What is not finite has no place on an axis.
    samples = (Sample(_moment(p.time), p.value) for p in series.points if math.isfinite(p.value))
    return Series(series.metric, dict(series.labels), series.unit, tuple(samples))


def _known(info: metrics_pb2.SeriesInfo) -> KnownSeries:
    return KnownSeries(info.metric, dict(info.labels), info.unit, _moment(info.first_time), _moment(info.last_time))


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _left(deadline: datetime) -> float:
    return max(0.05, min(_MAX_CALL, deadline - datetime.now(UTC)).total_seconds())
