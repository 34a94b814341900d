"""What is answered from the rollups."""

from datetime import timedelta

import pytest
from chassis.errors import InvalidArgument, NotFound
from metrics_service import ingestion, series_store
from metrics_service.ingestion import Batch
from metrics_service.instants import to_us
from metrics_service.queries import Buckets, Matcher, MatchOperator, Selector, SeriesQuery
from metrics_service.rollups import Aggregation, Resolution

SECOND = timedelta(seconds=1)


@pytest.fixture
def add(engine, noon):
    def apply(*samples):
        ingestion.apply(engine, Batch(f"batch-{id(samples)}", samples, 0, ""), noon)

    return apply


@pytest.fixture
def ask(engine):
    def query(start, end, *, metric="cpu", aggregation=Aggregation.AVG, resolution=Resolution.TEN_SECONDS, matchers=()):
        asked = SeriesQuery(Selector(metric, matchers), start, end, aggregation, resolution)
        return series_store.query_series(engine, asked, Buckets.over(start, end, resolution))

    return query


def test_points_are_by_bucket_and_empty_buckets_are_left_out(add, ask, noon, a_sample):
    add(a_sample(1.0, at=noon), a_sample(3.0, at=noon + 9 * SECOND), a_sample(5.0, at=noon + 20 * SECOND))

    answer = ask(noon, noon + 30 * SECOND)

    (series,) = answer.series
    start = int(noon.timestamp())
    assert series.points == [(start, 2.0), (start + 20, 5.0)]


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [
        (Aggregation.AVG, 2.0),
        (Aggregation.MIN, 1.0),
        (Aggregation.MAX, 3.0),
        (Aggregation.SUM, 4.0),
        (Aggregation.COUNT, 2.0),
        (Aggregation.LAST, 3.0),
    ],
)
def test_every_aggregation_over_buckets_and_windows(engine, add, ask, noon, a_sample, aggregation, value):
    add(a_sample(1.0, at=noon), a_sample(3.0, at=noon + 9 * SECOND))

    (series,) = ask(noon, noon + 10 * SECOND, aggregation=aggregation).series
    assert series.points == [(int(noon.timestamp()), value)]

    buckets = Buckets.over(noon, noon + 10 * SECOND, Resolution.TEN_SECONDS)
    with engine.connect() as connection:
        values = series_store.window_values(connection, "cpu", aggregation, buckets)
    assert values == {a_sample().series.fingerprint: value}


def test_a_window_merges_its_buckets_and_nothing_else(engine, add, noon, a_sample):
    add(
        a_sample(100.0, at=noon - SECOND),
        a_sample(1.0, at=noon),
        a_sample(5.0, at=noon + 10 * SECOND),
        a_sample(100.0, at=noon + 20 * SECOND),
        a_sample(100.0, at=noon, metric="memory"),
    )

    with engine.connect() as connection:
        buckets = Buckets.over(noon, noon + 20 * SECOND, Resolution.TEN_SECONDS)
        averages = series_store.window_values(connection, "cpu", Aggregation.AVG, buckets)
        lasts = series_store.window_values(connection, "cpu", Aggregation.LAST, buckets)

    assert averages == {a_sample().series.fingerprint: 3.0}
    assert lasts == {a_sample().series.fingerprint: 5.0}


def test_matchers_select_series(add, ask, noon, a_sample):
    add(a_sample(1.0, core="0"), a_sample(2.0, core="1"))

    answer = ask(noon, noon + SECOND, matchers=(Matcher("core", MatchOperator.NOT_EQUAL, "0"),))

    assert [series.record.key.labels for series in answer.series] == [(("core", "1"),)]


def test_a_metric_that_was_never_seen_is_not_found(ask, noon):
    with pytest.raises(NotFound) as refused:
        ask(noon, noon + SECOND)

    assert refused.value.reason == "SERIES_NOT_FOUND"
    assert refused.value.metadata == {"metric": "cpu"}


def test_a_metric_without_a_point_in_the_range_is_an_empty_answer(add, ask, noon, a_sample):
    add(a_sample())

    assert ask(noon + timedelta(hours=1), noon + timedelta(hours=2)).series == []
    assert ask(noon, noon + SECOND, matchers=(Matcher("core", MatchOperator.EQUAL, "9"),)).series == []


def test_an_answer_has_200_series_and_says_how_many_it_left_out(add, ask, noon, a_sample):
    """By labels, so the same ones each time; series outside of the range do not count."""
    add(*(a_sample(core=f"{core:03}") for core in range(203)), a_sample(at=noon - timedelta(days=1), core="000old"))

    answer = ask(noon, noon + SECOND)

    assert [dict(series.record.key.labels)["core"] for series in answer.series] == [f"{i:03}" for i in range(200)]
    assert answer.omitted == 3


def test_an_answer_that_is_too_large_is_refused(add, ask, noon, a_sample, monkeypatch):
    """A client is told what to ask for instead of getting a message that its channel refuses."""
    monkeypatch.setattr(series_store, "MAX_ANSWER_POINTS", 3)
    add(*(a_sample(core=str(core)) for core in range(4)))

    with pytest.raises(InvalidArgument) as refused:
        ask(noon, noon + SECOND)

    assert refused.value.reason == "QUERY_TOO_LARGE"


def test_series_are_listed_page_by_page(engine, add, a_sample):
    metrics = ["cpu", "cpu", "cpu", "disk", "memory", "memory"]
    add(*(a_sample(metric=metric, core=str(i)) for i, metric in enumerate(metrics)))

    listed, after = [], None
    while page := series_store.list_series(engine, "", after, 2):
        listed += page
        after = (page[-1].key.metric, page[-1].key.fingerprint)

    assert [record.key.metric for record in listed] == metrics
    assert len({record.key for record in listed}) == 6


@pytest.mark.parametrize(("prefix", "metrics"), [("system.", ["system.cpu"]), ("SYSTEM", []), ("s_s", []), ("%", [])])
def test_a_prefix_is_taken_as_it_is(engine, add, a_sample, prefix, metrics):
    """Case counts, and no character of it is a wildcard."""
    add(a_sample(metric="system.cpu"), a_sample(metric="memory"))

    assert [record.key.metric for record in series_store.list_series(engine, prefix, None, 10)] == metrics


def test_a_series_tells_what_is_known_of_it(engine, add, noon, a_sample):
    add(a_sample(1.0, at=noon, unit="By"), a_sample(2.0, at=noon + SECOND))

    (record,) = series_store.list_series(engine, "", None, 10)

    assert (record.first_time_us, record.last_time_us) == (to_us(noon), to_us(noon + SECOND))
    assert (record.last_value, record.unit) == (2.0, "By")
