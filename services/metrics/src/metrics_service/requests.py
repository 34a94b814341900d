"""Requests of the contract as values of the domain, or every violation at once."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, TypeVar

from chassis import paging
from chassis.acceptance import check_options
from chassis.errors import FieldViolation, InvalidArgument, Violations
from waybill.metrics.v1 import metrics_pb2 as pb

from metrics_service.alerts import AlertFilter, AlertState
from metrics_service.queries import (
    MAX_MATCHERS,
    MAX_RANGE_POINTS,
    Buckets,
    Matcher,
    MatchOperator,
    Retention,
    Selector,
    SeriesQuery,
    buckets_for,
)
from metrics_service.rollups import Aggregation, Resolution
from metrics_service.rules import (
    DEFAULT_WINDOW,
    MAX_ANNOTATION_LENGTH,
    MAX_ANNOTATIONS,
    MAX_DISPLAY_NAME_LENGTH,
    MAX_FOR,
    MAX_WINDOW,
    MIN_WINDOW,
    RULE_ID_RULE,
    AlertRule,
    Comparison,
)
from metrics_service.samples import MAX_SAMPLES, Sample, time_fault, value_fault
from metrics_service.series import NAME_RULE, SeriesKey, is_name, label_faults, sort_labels

SERIES_PAGE_SIZE = 100
RULES_PAGE_SIZE = 100

_E = TypeVar("_E", bound=IntEnum)
_RULE_ID = re.compile(RULE_ID_RULE)
_ZERO = timedelta()
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_ingestion(request: pb.IngestSamplesRequest, now: datetime) -> None:
    """Raise InvalidArgument with every violation of the samples and of the submit options."""
    violations = Violations()
    _check_samples(request.samples, now, violations)
    try:
        check_options(request.options, request.options.labels, request.request_id)
    except InvalidArgument as refused:
        violations.found.extend(refused.violations)
    violations.raise_if_any()


def read_samples(samples: Sequence[pb.Sample], now: datetime) -> list[Sample]:
    """The samples of a batch received at `now`; raises InvalidArgument with every violation."""
    violations = Violations()
    _check_samples(samples, now, violations)
    violations.raise_if_any()
    return [_sample(message) for message in samples]


def _check_samples(samples: Sequence[pb.Sample], now: datetime, violations: Violations) -> None:
    violations.require(
        1 <= len(samples) <= MAX_SAMPLES, "samples", f"has {len(samples):,} samples; expected 1 to {MAX_SAMPLES:,}"
    )
    for index, message in enumerate(samples[:MAX_SAMPLES]):
        for field, fault in _sample_faults(message, now):
            violations.add(f"samples[{index}].{field}", fault)


def _sample_faults(message: pb.Sample, now: datetime) -> Iterator[tuple[str, str]]:
    if not is_name(message.metric):
        yield "metric", _name_fault(message.metric)
    for fault in label_faults(message.labels):
        yield "labels", fault
    if fault := value_fault(message.value):
        yield "value", fault
    try:
        fault = time_fault(message.time.ToMicroseconds(), now) if message.HasField("time") else "is required"
    except ValueError as error:
        fault = str(error)
    if fault:
        yield "time", fault


def _sample(message: pb.Sample) -> Sample:
    return Sample(SeriesKey.of(message.metric, message.labels), message.time.ToMicroseconds(), message.value)


def read_query(request: pb.QuerySeriesRequest, now: datetime, retention: Retention) -> tuple[SeriesQuery, Buckets]:
    """A query and the buckets that answer it; raises InvalidArgument with every violation."""
    violations = Violations()
    resolution = _enum(Resolution, request.resolution, "resolution", violations) if request.resolution else None
    query = SeriesQuery(
        selector=_selector(request, "", violations),
        start=_instant(request, "start_time", violations),
        end=_instant(request, "end_time", violations),
        aggregation=_enum(Aggregation, request.aggregation or Aggregation.AVG, "aggregation", violations),
        resolution=resolution,
    )
    violations.raise_if_any()
    violations.require(query.start < query.end, "end_time", "is not after start_time")
    violations.raise_if_any()
    buckets = buckets_for(query, now, retention)
    violations.require(len(buckets) <= MAX_RANGE_POINTS, "end_time", _range_fault(buckets))
    violations.raise_if_any()
    return query, buckets


def _range_fault(buckets: Buckets) -> str:
    width = buckets.resolution.seconds
    return (
        f"the range holds {len(buckets):,} buckets of {width} s; at most {MAX_RANGE_POINTS:,}, "
        f"which is {timedelta(seconds=width * MAX_RANGE_POINTS)}: ask for less, or for a coarser resolution"
    )


def read_rule(rule: pb.AlertRule) -> AlertRule:
    """A rule of a create or update request, whose field is `rule`; raises InvalidArgument with every violation."""
    violations = Violations()
    _check_rule(rule, violations)
    read = AlertRule(
        rule_id=rule.rule_id,
        display_name=rule.display_name,
        selector=_selector(rule, "rule.", violations),
        aggregation=_enum(Aggregation, rule.aggregation or Aggregation.AVG, "rule.aggregation", violations),
        comparison=_enum(Comparison, rule.comparison, "rule.comparison", violations),
        threshold=rule.threshold,
        window=_duration(rule, "window", DEFAULT_WINDOW, violations),
        for_duration=_duration(rule, "for_duration", _ZERO, violations),
        labels=sort_labels(rule.labels),
        annotations=sort_labels(rule.annotations),
        disabled=rule.disabled,
    )
    _check_length(read.window, MIN_WINDOW, MAX_WINDOW, "rule.window", violations)
    _check_length(read.for_duration, _ZERO, MAX_FOR, "rule.for_duration", violations)
    violations.raise_if_any()
    return read


def read_rule_id(rule_id: str) -> str:
    """The rule_id of a get or delete request; raises InvalidArgument when it can be none."""
    violations = Violations()
    violations.require(_RULE_ID.fullmatch(rule_id), "rule_id", _rule_id_fault(rule_id))
    violations.raise_if_any()
    return rule_id


def read_series_page(request: pb.ListSeriesRequest) -> tuple[int, tuple[str, bytes] | None]:
    """The page size, and the metric and fingerprint after which the page begins."""
    page = paging.page(request, str, str, default=SERIES_PAGE_SIZE)
    if not page.after:
        return page.size, None
    metric, fingerprint = page.after
    try:
        return page.size, (metric, bytes.fromhex(fingerprint))
    except ValueError:
        refused = FieldViolation("page_token", "is not a token that this method has returned")
        raise InvalidArgument([refused]) from None


def read_alert_filter(request: pb.ListAlertsRequest) -> AlertFilter:
    """Which alerts are wanted; raises InvalidArgument with every violation."""
    violations = Violations()
    state = _enum(AlertState, request.state, "state", violations) if request.state else None
    if request.rule_id:
        violations.require(_RULE_ID.fullmatch(request.rule_id), "rule_id", _rule_id_fault(request.rule_id))
    size = paging.size(request.page_size, violations=violations)
    after = paging.decode(request.page_token, str, violations=violations)
    violations.raise_if_any()
    return AlertFilter(state, request.rule_id, after[0] if after else "", size)


def _check_rule(rule: pb.AlertRule, violations: Violations) -> None:
    violations.require(_RULE_ID.fullmatch(rule.rule_id), "rule.rule_id", _rule_id_fault(rule.rule_id))
    violations.require(
        len(rule.display_name) <= MAX_DISPLAY_NAME_LENGTH,
        "rule.display_name",
        f"has {len(rule.display_name)} characters; at most {MAX_DISPLAY_NAME_LENGTH}",
    )
    violations.require("\0" not in rule.display_name, "rule.display_name", "contains a NUL character")
    violations.require(
        math.isfinite(rule.threshold), "rule.threshold", f"is {rule.threshold}; expected a finite number"
    )
    for fault in label_faults(rule.labels):
        violations.add("rule.labels", fault)
    for fault in _annotation_faults(rule.annotations):
        violations.add("rule.annotations", fault)


def _annotation_faults(annotations: Mapping[str, str]) -> Iterator[str]:
    if len(annotations) > MAX_ANNOTATIONS:
        yield f"has {len(annotations)} annotations; at most {MAX_ANNOTATIONS}"
    for key, value in annotations.items():
        if not is_name(key):
            yield f"{key[:64]!r} is no annotation name; expected {NAME_RULE}"
        if len(value) > MAX_ANNOTATION_LENGTH:
            yield f"{key[:64]!r} has {len(value)} characters; at most {MAX_ANNOTATION_LENGTH}"


def _selector(message: pb.QuerySeriesRequest | pb.AlertRule, prefix: str, violations: Violations) -> Selector:
    violations.require(is_name(message.metric), f"{prefix}metric", _name_fault(message.metric))
    path = f"{prefix}matchers"
    count = len(message.matchers)
    violations.require(count <= MAX_MATCHERS, path, f"has {count} matchers; at most {MAX_MATCHERS}")
    read = [
        _matcher(each, f"{path}[{index}]", violations) for index, each in enumerate(message.matchers[:MAX_MATCHERS])
    ]
    return Selector(message.metric, tuple(read))


def _matcher(message: pb.LabelMatcher, path: str, violations: Violations) -> Matcher:
    violations.require(is_name(message.label), f"{path}.label", _name_fault(message.label))
    operator = _enum(MatchOperator, message.operator or MatchOperator.EQUAL, f"{path}.operator", violations)
    matcher = Matcher(message.label, operator, message.value)
    if fault := matcher.fault():
        violations.add(f"{path}.value", fault)
    return matcher


def _enum(kind: type[_E], number: int, field: str, violations: Violations) -> _E:
    """The member of that number; a violation, and the first member, where there is none."""
    members = {int(member): member for member in kind}
    if number not in members:
        violations.add(
            field, f"is {number}; expected one of {', '.join(m.name for m in kind)}" if number else "is required"
        )
    return members.get(number, next(iter(kind)))


def _instant(message: Any, field: str, violations: Violations) -> datetime:
    if not violations.require(message.HasField(field), field, "is required"):
        return _UNIX_EPOCH
    try:
        instant: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        violations.add(field, str(error))
        return _UNIX_EPOCH
    violations.require(instant >= _UNIX_EPOCH, field, "is before 1970-01-01T00:00:00Z")
    return instant


def _duration(rule: pb.AlertRule, field: str, default: timedelta, violations: Violations) -> timedelta:
    if not rule.HasField(field):  # type: ignore[arg-type]
        return default
    try:
        duration: timedelta = getattr(rule, field).ToTimedelta()
    except (ValueError, OverflowError) as error:
        violations.add(f"rule.{field}", str(error))
        return default
    return duration


def _check_length(
    duration: timedelta, shortest: timedelta, longest: timedelta, field: str, violations: Violations
) -> None:
    violations.require(
        shortest <= duration <= longest,
        field,
        f"is {duration.total_seconds():g} s; expected {shortest.total_seconds():g} s to {longest.total_seconds():g} s",
    )


def _name_fault(name: str) -> str:
    return f"is {name[:64]!r}; expected {NAME_RULE}" if name else "is required"


def _rule_id_fault(rule_id: str) -> str:
    return f"is {rule_id[:64]!r}; expected {RULE_ID_RULE}" if rule_id else "is required"
