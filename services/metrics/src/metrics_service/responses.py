"""Values of the domain as messages of the contract."""

from waybill.metrics.v1 import metrics_pb2 as pb

from metrics_service.alerts import Alert
from metrics_service.instants import from_us
from metrics_service.rollups import Resolution
from metrics_service.rules import StoredRule
from metrics_service.series import SeriesAnswer, SeriesPoints, SeriesRecord

_TRACEPARENT_PARTS = 4


def series_info(record: SeriesRecord) -> pb.SeriesInfo:
    """What is known of a series, without its points."""
    message = pb.SeriesInfo(
        metric=record.key.metric,
        labels=dict(record.key.labels),
        unit=record.unit,
        last_value=record.last_value,
    )
    message.first_time.FromDatetime(from_us(record.first_time_us))
    message.last_time.FromDatetime(from_us(record.last_time_us))
    return message


def query_answer(answer: SeriesAnswer, resolution: Resolution) -> pb.QuerySeriesResponse:
    """Series with their points."""
    return pb.QuerySeriesResponse(
        series=map(_series, answer.series),
        resolution=pb.Resolution.ValueType(resolution),
        omitted_series=answer.omitted,
    )


def _series(found: SeriesPoints) -> pb.Series:
    key = found.record.key
    message = pb.Series(metric=key.metric, labels=dict(key.labels), unit=found.record.unit)
    add = message.points.add
    for bucket, value in found.points:
        point = add()
        point.time.seconds = bucket
        point.value = value
    return message


def alert_rule(stored: StoredRule) -> pb.AlertRule:
    """A rule as it is in force: what its author left out is filled in."""
    rule = stored.rule
    message = pb.AlertRule(
        rule_id=rule.rule_id,
        display_name=rule.display_name,
        metric=rule.selector.metric,
        aggregation=pb.TimeAggregation.ValueType(rule.aggregation),
        comparison=pb.Comparison.ValueType(rule.comparison),
        threshold=rule.threshold,
        labels=dict(rule.labels),
        annotations=dict(rule.annotations),
        disabled=rule.disabled,
    )
    for matcher in rule.selector.matchers:
        operator = pb.MatchOperator.ValueType(matcher.operator)
        message.matchers.add(label=matcher.label, operator=operator, value=matcher.value)
    message.window.FromTimedelta(rule.window)
    message.for_duration.FromTimedelta(rule.for_duration)
    message.create_time.FromDatetime(stored.create_time)
    message.update_time.FromDatetime(stored.update_time)
    return message


def alert(value: Alert, traceparent: str = "") -> pb.Alert:
    """`traceparent`: any context of the incident's trace; by default the one that the alert keeps."""
    message = pb.Alert(
        alert_id=value.alert_id,
        rule_id=value.rule_id,
        display_name=value.display_name,
        state=pb.AlertState.ValueType(value.state),
        metric=value.series.metric,
        labels=dict(value.labels),
        annotations=dict(value.annotations),
        comparison=pb.Comparison.ValueType(value.comparison),
        threshold=value.threshold,
        value=value.value,
        worst_value=value.worst_value,
        trace_id=trace_id(traceparent or value.traceparent),
    )
    message.breach_time.FromDatetime(value.breach_time)
    if value.fire_time is not None:
        message.fire_time.FromDatetime(value.fire_time)
    if value.resolve_time is not None:
        message.resolve_time.FromDatetime(value.resolve_time)
    return message


def trace_id(traceparent: str) -> str:
    """The trace of a W3C traceparent; empty for the empty one."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= _TRACEPARENT_PARTS else ""
