"""Which series an incident report shows beside the one that breached."""

from datetime import UTC, datetime, timedelta

import pytest
from reports_service import relations
from reports_service.documents import Sample, Series, Window
from reports_service.incident import Incident
from reports_service.queries import Aggregation, Answer, KnownSeries, Matcher, Query

BEGAN = datetime(2026, 8, 1, 14, 10, tzinfo=UTC)
LONG_AGO = BEGAN - timedelta(days=3)
SOURCE = {"service.name": "checkout", "host.name": "web-1"}


def a_breach(metric="system.cpu.utilization", minutes=10, **labels):
    return Incident(
        alert_id="a1",
        rule_id="rule",
        name="Rule",
        metric=metric,
        labels=SOURCE | labels,
        annotations={},
        above=True,
        threshold=0.8,
        worst=0.9,
        began=BEGAN,
        fired=BEGAN,
        resolved=BEGAN + timedelta(minutes=minutes),
        trace_id="",
    )


def known(metric, first=LONG_AGO, last=BEGAN + timedelta(minutes=5), **labels):
    return KnownSeries(metric, SOURCE | labels, "1", first, last)


def window(breach):
    return relations.window_of(breach, None, breach.resolved + timedelta(hours=1))


def shown(breach, series):
    source = relations.breached_series(breach, series)
    return [c.query.metric for c in relations.candidates(breach, source, series, window(breach))]


@pytest.mark.parametrize(("minutes", "pad"), [(1, 2), (10, 5), (600, 120)])
def test_the_window_is_the_breach_and_some_time_around_it(minutes, pad):
    """Half of its length, at least two minutes, at most two hours."""
    breach = a_breach(minutes=minutes)

    around = relations.window_of(breach, None, breach.resolved + timedelta(days=1))

    assert around == Window(BEGAN - timedelta(minutes=pad), breach.resolved + timedelta(minutes=pad))


def test_the_window_ends_when_the_report_is_made():
    """There is nothing after now."""
    breach = a_breach()

    assert relations.window_of(breach, None, breach.resolved + timedelta(seconds=3)).end == breach.resolved + timedelta(
        seconds=3
    )


def test_the_window_begins_no_earlier_than_the_series():
    """A chart that is half empty shows half as much."""
    breach = a_breach()
    young = known("system.cpu.utilization", first=BEGAN - timedelta(seconds=33))

    assert relations.window_of(breach, young, breach.resolved).start == BEGAN - timedelta(seconds=40)


def test_an_instant_breach_has_a_window():
    """Even when nothing was known before."""
    breach = a_breach(minutes=0)

    around = relations.window_of(breach, known("system.cpu.utilization", first=BEGAN), breach.resolved)

    assert around.duration > timedelta(0)


def test_the_breached_series_is_the_one_whose_labels_the_alert_carries():
    """Others of the metric disagree in a label."""
    series = [known("system.cpu.utilization", state=state) for state in ("idle", "user", "system")]
    breach = a_breach(state="user", severity="page")

    assert relations.breached_series(breach, series).labels["state"] == "user"


def test_the_most_specific_series_wins():
    """A series with fewer labels agrees, too."""
    series = [known("system.cpu.utilization"), known("system.cpu.utilization", state="user")]

    assert relations.breached_series(a_breach(state="user"), series).labels["state"] == "user"


def test_a_label_that_the_rule_hides_does_not_lose_the_series():
    """The rule's labels win over the series' in an alert."""
    series = [known("system.cpu.utilization", team="a", state="user"), known("other", team="b")]

    found = relations.breached_series(a_breach(state="user", team="rule"), series)

    assert found.labels["team"] == "a"


def test_a_metric_that_is_not_known_has_no_series():
    """The report then asks for the metric alone."""
    breach = a_breach()

    assert relations.breached_series(breach, [known("other")]) is None
    assert relations.breach_query(breach, None, window(breach)).matchers == ()


def test_the_breach_is_asked_for_by_all_labels_of_its_series():
    """So that exactly one series answers."""
    breach = a_breach(state="user")
    query = relations.breach_query(breach, known("system.cpu.utilization", state="user"), window(breach))

    assert query.matchers == (
        Matcher("host.name", "web-1"),
        Matcher("service.name", "checkout"),
        Matcher("state", "user"),
    )


def test_other_series_of_the_metric_come_first_then_near_then_well_known_ones():
    """What tells most about the breach stands next to it."""
    series = [
        known("system.zzz"),
        known("process.cpu.utilization"),
        known("system.memory.utilization"),
        known("system.cpu.load"),
        known("system.cpu.time"),
        known("system.cpu.utilization", state="user"),
        known("system.cpu.utilization", state="idle"),
    ]

    assert shown(a_breach(state="user"), series) == [
        "system.cpu.utilization",
        "system.cpu.load",
        "system.memory.utilization",
        "process.cpu.utilization",
        "system.zzz",
        "system.cpu.time",
    ]


def test_a_single_series_has_no_others_of_its_metric():
    """It would be the same chart again."""
    assert shown(a_breach(), [known("system.cpu.utilization"), known("system.memory.utilization")]) == [
        "system.memory.utilization"
    ]


def test_metrics_of_the_same_family_come_before_the_machine():
    """A service's own numbers tell more about it."""
    series = [known("checkout.latency"), known("system.cpu.utilization"), known("checkout.errors")]

    assert shown(a_breach("checkout.latency"), series) == ["checkout.errors", "system.cpu.utilization"]


def test_another_source_is_not_shown():
    """Another machine's memory explains nothing."""
    other = KnownSeries("system.memory.utilization", {"host.name": "web-2"}, "1", LONG_AGO, BEGAN)

    assert shown(a_breach(), [known("system.cpu.utilization"), other]) == []


def test_a_series_that_had_ended_or_not_begun_is_not_shown():
    """It has no sample in the window."""
    ended = known("system.memory.utilization", last=BEGAN - timedelta(hours=5))
    later = known("system.disk.io", first=BEGAN + timedelta(days=1), last=BEGAN + timedelta(days=2))

    assert shown(a_breach(), [known("system.cpu.utilization"), ended, later]) == []


def test_related_series_are_asked_for_by_their_source():
    """All of the metric's lines that come from there."""
    breach = a_breach()
    series = [known("system.cpu.utilization"), known("system.memory.usage", state="used")]

    (candidate,) = relations.candidates(breach, series[0], series, window(breach))

    assert candidate.title == "System memory usage"
    assert candidate.query.matchers == (Matcher("host.name", "web-1"), Matcher("service.name", "checkout"))


def test_the_prefixes_cover_the_metric_and_the_machine():
    """Few lists tell all that may be related."""
    assert relations.prefixes("checkout.latency") == ("checkout.", "process.", "system.")
    assert relations.prefixes("system.cpu.utilization") == ("process.", "system.")
    assert relations.prefixes("queue_depth") == ("process.", "queue_depth", "system.")


def test_the_extremes_of_a_series_are_three_lines_of_one_chart():
    """Of real samples, when nothing else is known."""
    breach = a_breach()
    query = relations.breach_query(breach, None, window(breach))
    asked = relations.envelope(query)
    answers = {
        name: Answer((Series("m", {"a": "b"}, "1", (Sample(BEGAN, value),)),), timedelta(seconds=10))
        for name, value in (("max", 3.0), ("mean", 2.0), ("min", 1.0))
    }

    joined = relations.enveloped(answers)

    assert asked["max"] == Query(query.metric, query.window, query.matchers, Aggregation.MAX)
    assert [(s.labels, s.values) for s in joined.series] == [
        ({"value": "max"}, (3.0,)),
        ({"value": "mean"}, (2.0,)),
        ({"value": "min"}, (1.0,)),
    ]
    assert joined.step == timedelta(seconds=10)
