"""Rollups: whatever the order and the grouping of samples, the buckets hold the same."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_service.instants import to_us
from metrics_service.rollups import Aggregation, BucketKey, Resolution, Rollup, coarsen, of_sample, roll_up
from metrics_service.samples import Sample
from metrics_service.series import SeriesKey
from waybill.metrics.v1 import metrics_pb2

SERIES = [SeriesKey.of("cpu", {"core": str(core)}) for core in range(3)]
# Integers add without rounding, so totals can be compared exactly.
WHOLE = st.integers(-(2**40), 2**40).map(float)
ANY = st.floats(-1e300, 1e300)
TIMES = st.integers(1, 4 * 3600 * 1_000_000)


def samples(values):
    return st.builds(Sample, st.sampled_from(SERIES), TIMES, values)


def rollups(values):
    batches = st.lists(samples(values), min_size=1, max_size=5)
    return batches.map(lambda batch: merged(of_sample(sample) for sample in batch))


def merged(parts) -> Rollup:
    first, *rest = parts
    for part in rest:
        first = first.merge(part)
    return first


@given(rollups(ANY), rollups(ANY))
def test_merging_is_commutative(one, other):
    assert one.merge(other) == other.merge(one)


@given(rollups(WHOLE), rollups(WHOLE), rollups(WHOLE))
def test_merging_is_associative(one, two, three):
    assert one.merge(two).merge(three) == one.merge(two.merge(three))


@given(rollups(ANY), rollups(ANY), rollups(ANY))
def test_grouping_changes_a_total_by_rounding_alone(one, two, three):
    left, right = one.merge(two).merge(three), one.merge(two.merge(three))

    scale = max(abs(one.total), abs(two.total), abs(three.total))
    assert math.isclose(left.total, right.total, rel_tol=1e-12, abs_tol=scale * 1e-12)
    assert (left.count, left.low, left.high, left.last) == (right.count, right.low, right.high, right.last)


@given(st.lists(samples(WHOLE), max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(batch, random):
    shuffled = batch.copy()
    random.shuffle(shuffled)

    assert roll_up(shuffled) == roll_up(batch)


@given(st.lists(samples(WHOLE), min_size=1, max_size=30))
def test_a_bucket_holds_what_its_samples_say(batch):
    for key, rollup in roll_up(batch).items():
        inside = [
            sample
            for sample in batch
            if sample.series.fingerprint == key.fingerprint
            and key.bucket <= sample.time_us / 1_000_000 < key.bucket + 10
        ]
        values = [sample.value for sample in inside]
        assert (rollup.count, rollup.total) == (len(values), sum(values))
        assert (rollup.low, rollup.high) == (min(values), max(values))
        assert (rollup.last_time_us, rollup.last) == max((sample.time_us, sample.value) for sample in inside)


@given(st.lists(samples(WHOLE), max_size=30))
def test_coarser_buckets_are_those_of_the_samples(batch):
    """Hours computed from minutes computed from ten seconds are hours computed from samples."""
    minutes = coarsen(roll_up(batch), Resolution.ONE_MINUTE)
    hours = coarsen(minutes, Resolution.ONE_HOUR)

    expected: dict[BucketKey, Rollup] = {}
    for sample in batch:
        key = BucketKey(sample.series.fingerprint, Resolution.ONE_HOUR.bucket(sample.time_us))
        rollup = of_sample(sample)
        expected[key] = expected[key].merge(rollup) if key in expected else rollup
    assert hours == expected


@given(rollups(ANY))
def test_the_mean_lies_between_the_least_and_the_greatest(rollup):
    assert rollup.low <= rollup.value(Aggregation.AVG) <= rollup.high


def test_last_wins_by_event_time_not_by_arrival(noon, a_sample):
    late = of_sample(a_sample(1.0, at=noon))
    newer = of_sample(a_sample(2.0, at=noon + timedelta(seconds=1)))

    assert newer.merge(late).last == 2.0


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [
        (Aggregation.AVG, 2.0),
        (Aggregation.MIN, 1.0),
        (Aggregation.MAX, 3.0),
        (Aggregation.SUM, 6.0),
        (Aggregation.COUNT, 3.0),
        (Aggregation.LAST, 1.0),
    ],
)
def test_how_samples_become_one_value(noon, a_sample, aggregation, value):
    parts = [a_sample(v, at=noon + timedelta(seconds=i)) for i, v in enumerate([3.0, 2.0, 1.0])]

    assert merged(map(of_sample, parts)).value(aggregation) == value


@pytest.mark.parametrize(
    ("resolution", "start"), [(Resolution.TEN_SECONDS, 50), (Resolution.ONE_MINUTE, 0), (Resolution.ONE_HOUR, 0)]
)
def test_a_bucket_begins_at_a_multiple_of_its_width(noon, resolution, start):
    sample_us = to_us(noon + timedelta(seconds=59, microseconds=999_999))

    assert resolution.bucket(sample_us) - int(noon.timestamp()) == start


def test_numbers_are_those_of_the_contract():
    """A number on the wire is the same member here."""
    assert {f"TIME_AGGREGATION_{each.name}": int(each) for each in Aggregation}.items() <= dict(
        metrics_pb2.TimeAggregation.items()
    ).items()
    assert [int(each) for each in Resolution] == [
        metrics_pb2.RESOLUTION_10_SECONDS,
        metrics_pb2.RESOLUTION_1_MINUTE,
        metrics_pb2.RESOLUTION_1_HOUR,
    ]
