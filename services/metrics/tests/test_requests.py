"""Requests: what they mean, and every violation at once."""

import math
from datetime import timedelta

import pytest
from chassis.errors import InvalidArgument
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from metrics_service import requests, responses
from metrics_service.queries import Matcher, MatchOperator
from metrics_service.rollups import Aggregation, Resolution
from metrics_service.rules import Comparison, StoredRule
from waybill.metrics.v1 import metrics_pb2 as pb
from waybill.operations.v1 import operations_pb2


def violations(call, *arguments):
    with pytest.raises(InvalidArgument) as refused:
        call(*arguments)
    return {found.field: found.description for found in refused.value.violations}


@pytest.fixture
def stamp(noon):
    def make(**offset):
        moment = Timestamp()
        moment.FromDatetime(noon + timedelta(**offset))
        return moment

    return make


@pytest.fixture
def message(stamp):
    def make(**given):
        return pb.Sample(**{"metric": "cpu", "time": stamp(), "value": 1.0, **given})

    return make


def test_samples_are_read(noon, message):
    (sample,) = requests.read_samples([message(labels={"core": "0", "empty": ""})], noon)

    assert sample.series.metric == "cpu"
    assert sample.series.labels == (("core", "0"),)
    assert sample.value == 1.0


def test_every_violation_of_a_batch_is_told_with_its_index(noon, message, stamp):
    bad = pb.Sample(metric="5xx", labels={"a b": "x"}, value=math.nan)

    found = violations(requests.read_samples, [message(), bad, message(time=stamp(minutes=11))], noon)

    assert set(found) == {
        "samples[1].metric",
        "samples[1].labels",
        "samples[1].value",
        "samples[1].time",
        "samples[2].time",
    }
    assert found["samples[1].time"] == "is required"


def test_a_time_that_no_calendar_has_is_a_violation(noon, message):
    found = violations(requests.read_samples, [message(time=Timestamp(seconds=10**15))], noon)

    assert set(found) == {"samples[0].time"}


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_batch_has_1_to_10000_samples(noon, message, count):
    assert set(violations(requests.read_samples, [message()] * count, noon)) == {"samples"}


def test_options_and_samples_are_refused_together(noon):
    """A client mends everything in one go."""
    request = pb.IngestSamplesRequest(
        samples=[pb.Sample()], options=operations_pb2.SubmitOptions(max_attempts=-1), request_id="x" * 300
    )

    found = violations(requests.check_ingestion, request, noon)

    assert {"samples[0].metric", "samples[0].time", "options.max_attempts", "request_id"} <= set(found)


def test_a_query_without_options_averages_and_lets_the_service_choose(noon, retention, stamp):
    request = pb.QuerySeriesRequest(
        metric="cpu",
        matchers=[pb.LabelMatcher(label="core", value="0")],
        start_time=stamp(minutes=-5),
        end_time=stamp(),
    )

    query, buckets = requests.read_query(request, noon, retention)

    assert query.selector.matchers == (Matcher("core", MatchOperator.EQUAL, "0"),)
    assert query.aggregation is Aggregation.AVG
    assert buckets.resolution is Resolution.TEN_SECONDS
    assert len(buckets) == 30


def test_every_violation_of_a_query_is_told(noon, retention):
    request = pb.QuerySeriesRequest(
        metric="cpu load",
        matchers=[
            pb.LabelMatcher(label="", value="x"),
            pb.LabelMatcher(label="core", operator=pb.MATCH_OPERATOR_REGEX, value="("),
            pb.LabelMatcher(label="core", operator=9, value="x"),
        ],
        resolution=7,
        aggregation=8,
    )

    found = violations(requests.read_query, request, noon, retention)

    assert set(found) == {
        "metric",
        "matchers[0].label",
        "matchers[1].value",
        "matchers[2].operator",
        "start_time",
        "end_time",
        "resolution",
        "aggregation",
    }


def test_a_range_ends_after_it_starts(noon, retention, stamp):
    request = pb.QuerySeriesRequest(metric="cpu", start_time=stamp(), end_time=stamp())

    assert violations(requests.read_query, request, noon, retention) == {"end_time": "is not after start_time"}


def test_a_range_that_is_too_long_says_what_to_ask_for(noon, retention, stamp):
    request = pb.QuerySeriesRequest(
        metric="cpu", start_time=stamp(days=-2), end_time=stamp(), resolution=pb.RESOLUTION_10_SECONDS
    )

    found = violations(requests.read_query, request, noon, retention)

    assert found["end_time"] == (
        "the range holds 17,280 buckets of 10 s; at most 10,000, which is 1 day, 3:46:40: "
        "ask for less, or for a coarser resolution"
    )


def test_a_rule_is_read_with_its_defaults():
    rule = requests.read_rule(
        pb.AlertRule(rule_id="cpu-high", metric="cpu", comparison=pb.COMPARISON_ABOVE, threshold=90)
    )

    assert rule.aggregation is Aggregation.AVG
    assert rule.comparison is Comparison.ABOVE
    assert rule.window == timedelta(seconds=30)
    assert rule.for_duration == timedelta()
    assert rule.title == "cpu-high"


def test_every_violation_of_a_rule_is_told():
    rule = pb.AlertRule(
        rule_id="CPU",
        display_name="x" * 256,
        metric="",
        matchers=[pb.LabelMatcher(label="core")] * 33,
        aggregation=9,
        threshold=math.inf,
        window=Duration(seconds=9),
        for_duration=Duration(seconds=-1),
        labels={"a b": "x"},
        annotations={"summary": "x" * 4097},
    )

    found = violations(requests.read_rule, rule)

    assert set(found) == {
        "rule.rule_id",
        "rule.display_name",
        "rule.metric",
        "rule.matchers",
        "rule.aggregation",
        "rule.comparison",
        "rule.threshold",
        "rule.window",
        "rule.for_duration",
        "rule.labels",
        "rule.annotations",
    }
    assert found["rule.comparison"] == "is required"
    assert found["rule.window"] == "is 9 s; expected 10 s to 86400 s"


def test_an_empty_rule_says_what_is_required():
    assert set(violations(requests.read_rule, pb.AlertRule())) == {"rule.rule_id", "rule.metric", "rule.comparison"}


def test_a_duration_that_is_none_is_a_violation():
    rule = pb.AlertRule(rule_id="a", metric="cpu", comparison=pb.COMPARISON_BELOW, window=Duration(seconds=1, nanos=-5))

    assert set(violations(requests.read_rule, rule)) == {"rule.window"}


def test_a_rule_survives_the_way_in_and_out(noon, a_rule):
    """What a client reads it can write again, and it is the same rule."""
    rule = a_rule(
        where={"core": "0"},
        for_duration=timedelta(minutes=1),
        labels=(("severity", "page"),),
        annotations=(("summary", "hot"),),
        display_name="CPU",
        disabled=True,
    )

    assert requests.read_rule(responses.alert_rule(StoredRule(rule, noon, noon))) == rule


@pytest.mark.parametrize("rule_id", ["", "CPU", "1cpu", "cpu high", "c" * 64])
def test_what_is_no_rule_id(rule_id):
    assert set(violations(requests.read_rule_id, rule_id)) == {"rule_id"}


def test_every_violation_of_a_list_of_alerts_is_told():
    request = pb.ListAlertsRequest(state=9, rule_id="CPU", page_size=-1, page_token="%")

    assert set(violations(requests.read_alert_filter, request)) == {"state", "rule_id", "page_size", "page_token"}


@pytest.mark.parametrize("token", ["%", "WyJjcHUiLCJ6eiJd"])
def test_a_page_token_that_nobody_gave_is_refused(token):
    assert set(violations(requests.read_series_page, pb.ListSeriesRequest(page_token=token))) == {"page_token"}
