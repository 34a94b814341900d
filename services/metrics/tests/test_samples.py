"""Which samples are taken, and which are late."""

import math
from datetime import timedelta

import pytest
from metrics_service.instants import from_us, instant_of, to_us
from metrics_service.samples import split_late, time_fault, touched, value_fault


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e301, -1e301])
def test_values_that_no_rollup_can_hold_are_refused(value):
    assert value_fault(value)


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1e300, -1e300])
def test_every_other_value_is_taken(value):
    assert value_fault(value) == ""


@pytest.mark.parametrize(
    ("ahead", "taken"),
    [(timedelta(), True), (timedelta(minutes=10), True), (timedelta(minutes=10, microseconds=1), False)],
)
def test_an_event_time_is_at_most_ten_minutes_ahead(noon, ahead, taken):
    assert (time_fault(to_us(noon + ahead), noon) == "") is taken


@pytest.mark.parametrize("time_us", [0, -1])
def test_an_event_time_is_after_1970(noon, time_us):
    assert time_fault(time_us, noon)


def test_lateness_counts_from_acceptance(noon, a_sample):
    """A sample exactly as late as allowed is applied, a later one is dropped and counted."""
    on_the_edge = a_sample(at=noon - timedelta(hours=1))
    too_late = a_sample(at=noon - timedelta(hours=1, microseconds=1))

    on_time, dropped = split_late([too_late, on_the_edge], noon, timedelta(hours=1))

    assert on_time == [on_the_edge]
    assert dropped == 1


def test_a_batch_tells_first_and_last_of_each_series(noon, a_sample):
    """Last is by event time, not by position; the unit is the last that is known."""
    second = timedelta(seconds=1)
    batch = [
        a_sample(2.0, at=noon + second, unit="By"),
        a_sample(1.0, at=noon),
        a_sample(3.0, at=noon + 2 * second),
        a_sample(9.0, at=noon, core="0"),
    ]

    records = {record.key.labels: record for record in touched(batch, "00-aa-bb-01")}

    total = records[()]
    assert (total.first_time_us, total.last_time_us, total.last_value) == (to_us(noon), to_us(noon + 2 * second), 3.0)
    assert total.unit == "By"
    assert total.traceparent == "00-aa-bb-01"
    assert records[(("core", "0"),)].last_value == 9.0


def test_microseconds_and_datetimes_convert_both_ways(noon):
    assert from_us(to_us(noon + timedelta(microseconds=1))) == noon + timedelta(microseconds=1)


def test_a_uuid7_tells_when_it_was_made():
    """RFC 9562, appendix A.6; rounded up, so never before the instant."""
    assert instant_of("017F22E2-79B0-7CC3-98C4-DC0C0C07398F").isoformat() == "2022-02-22T19:22:22.001000+00:00"
