"""Which series a query selects, and which buckets answer it."""

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_service.instants import from_us, to_us
from metrics_service.queries import (
    MAX_AUTO_POINTS,
    Buckets,
    Matcher,
    MatchOperator,
    Selector,
    SeriesQuery,
    buckets_for,
)
from metrics_service.rollups import Resolution
from metrics_service.series import SeriesKey
from waybill.metrics.v1 import metrics_pb2

EQUAL, NOT_EQUAL, REGEX, NOT_REGEX = MatchOperator


@pytest.mark.parametrize(
    ("operator", "value", "selected"),
    [
        (EQUAL, "user", {"user"}),
        (EQUAL, "", {"none"}),
        (NOT_EQUAL, "user", {"system", "none"}),
        (NOT_EQUAL, "", {"user", "system"}),
        (REGEX, "us.*|system", {"user", "system"}),
        (REGEX, "use", set()),
        (REGEX, "", {"none"}),
        (REGEX, ".*", {"user", "system", "none"}),
        (NOT_REGEX, "s.*", {"user", "none"}),
        (NOT_REGEX, ".+", {"none"}),
    ],
)
def test_a_label_that_a_series_lacks_has_the_empty_value(operator, value, selected):
    """Patterns are anchored at both ends."""
    series = {name: SeriesKey.of("cpu", {"state": name}) for name in ("user", "system")}
    series["none"] = SeriesKey.of("cpu", {})

    chosen = Selector("cpu", (Matcher("state", operator, value),)).choose(series.values())

    assert chosen == [key for name, key in series.items() if name in selected]


def test_every_matcher_must_hold():
    keys = [SeriesKey.of("cpu", {"state": state, "core": core}) for state in "ab" for core in "01"]
    both = (Matcher("state", EQUAL, "a"), Matcher("core", EQUAL, "1"))

    assert Selector("cpu", both).choose(keys) == [SeriesKey.of("cpu", {"state": "a", "core": "1"})]


def test_a_selector_selects_its_metric_alone():
    assert Selector("cpu").choose([SeriesKey.of("memory", {})]) == []


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?=a)", r"(a)\1", "a{1001}"])
def test_what_re2_does_not_take_is_a_fault(pattern):
    assert "is no RE2 regular expression: " in Matcher("state", REGEX, pattern).fault()


def test_a_pattern_has_a_limit():
    assert Matcher("state", REGEX, "a" * 256).fault() == ""
    assert "at most 256" in Matcher("state", NOT_REGEX, "a" * 257).fault()
    assert Matcher("state", EQUAL, "a" * 257).fault() == ""


@pytest.mark.parametrize("pattern", ["(a|a)*b", "(a+)+b", "(.*){10}b"])
def test_no_pattern_stalls_the_service(pattern):
    """A backtracking engine would take longer than the universe is old for these."""
    key = SeriesKey.of("cpu", {"state": "a" * 1024})
    begin = time.process_time()

    assert Selector("cpu", (Matcher("state", REGEX, pattern),)).choose([key]) == []
    assert time.process_time() - begin < 1


@given(st.integers(1, 10**15), st.integers(1, 10**13), st.sampled_from(Resolution))
def test_buckets_cover_the_range_and_no_more(start_us, length_us, resolution):
    buckets = Buckets.over(from_us(start_us), from_us(start_us + length_us), resolution)

    width_us = resolution.seconds * 1_000_000
    assert buckets.first * 1_000_000 <= start_us < buckets.first * 1_000_000 + width_us
    assert buckets.end * 1_000_000 - width_us < start_us + length_us <= buckets.end * 1_000_000
    assert len(buckets) == (buckets.end - buckets.first) // resolution.seconds


@pytest.mark.parametrize(
    ("ago", "length", "resolution"),
    [
        (timedelta(hours=1), timedelta(hours=1), Resolution.TEN_SECONDS),
        (timedelta(seconds=5_000), timedelta(seconds=5_000), Resolution.TEN_SECONDS),
        (timedelta(seconds=5_010), timedelta(seconds=5_010), Resolution.ONE_MINUTE),
        (timedelta(hours=8), timedelta(hours=8), Resolution.ONE_MINUTE),
        (timedelta(hours=9), timedelta(hours=9), Resolution.ONE_HOUR),
        (timedelta(days=90), timedelta(days=90), Resolution.ONE_HOUR),
        (timedelta(hours=25), timedelta(minutes=5), Resolution.ONE_MINUTE),
        (timedelta(days=15), timedelta(minutes=5), Resolution.ONE_HOUR),
        (timedelta(days=500), timedelta(minutes=5), Resolution.ONE_HOUR),
    ],
)
def test_the_finest_resolution_that_fits_and_is_still_kept(noon, retention, ago, length, resolution):
    """At most 500 points, of buckets that have not been pruned at the start of the range."""
    query = SeriesQuery(Selector("cpu"), noon - ago, noon - ago + length)

    buckets = buckets_for(query, noon, retention)

    assert buckets.resolution is resolution
    assert len(buckets) <= MAX_AUTO_POINTS or resolution is Resolution.ONE_HOUR


def test_a_resolution_that_was_asked_for_is_used(noon, retention):
    query = SeriesQuery(Selector("cpu"), noon - timedelta(days=1), noon, resolution=Resolution.TEN_SECONDS)

    assert len(buckets_for(query, noon, retention)) == 8_640


def test_the_end_is_exclusive(noon):
    assert Buckets.over(noon, noon + timedelta(seconds=10), Resolution.TEN_SECONDS).end == to_us(noon) // 1_000_000 + 10


def test_numbers_are_those_of_the_contract():
    assert {f"MATCH_OPERATOR_{each.name}": int(each) for each in MatchOperator}.items() <= dict(
        metrics_pb2.MatchOperator.items()
    ).items()
