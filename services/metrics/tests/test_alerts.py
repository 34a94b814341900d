"""The state machine of an alert: as a table, and as promises that hold on every path through it."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_service.alerts import (
    MAX_SILENT_WINDOWS,
    AlertState,
    Change,
    Observation,
    advance,
    alert_id,
    end_all,
    evaluate,
)
from metrics_service.rollups import Resolution
from metrics_service.rules import Comparison
from metrics_service.series import SeriesKey
from waybill.metrics.v1 import metrics_pb2

CPU = SeriesKey.of("cpu", {"core": "0"})
TICK = timedelta(seconds=5)
BREACHED, FINE, SILENT = 95.0, 50.0, None
PENDING, FIRING, RESOLVED = AlertState


def saw(value):
    return Observation(CPU, value)


def after(rule, values, begin):
    """The alert after evaluations that saw these values, one tick apart."""
    alert = None
    for index, value in enumerate(values):
        if alert is not None and alert.state is RESOLVED:
            alert = None
        alert = advance(alert, rule, saw(value), begin + index * TICK)
    return alert


@pytest.mark.parametrize(
    ("for_ticks", "values", "state"),
    [
        (0, [FINE], None),
        (0, [SILENT], None),
        (0, [90.0], None),
        (0, [BREACHED], FIRING),
        (2, [BREACHED], PENDING),
        (2, [BREACHED, BREACHED], PENDING),
        (2, [BREACHED, BREACHED, BREACHED], FIRING),
        (2, [BREACHED, FINE], None),
        (2, [BREACHED, SILENT], None),
        (2, [BREACHED, BREACHED, FINE, BREACHED, BREACHED], PENDING),
        (2, [BREACHED, BREACHED, SILENT, BREACHED], PENDING),
        (0, [BREACHED, BREACHED], FIRING),
        (0, [BREACHED, FINE], RESOLVED),
        (0, [BREACHED, 90.0], RESOLVED),
        (0, [BREACHED, SILENT], FIRING),
        (0, [BREACHED, SILENT, FINE], RESOLVED),
        (0, [BREACHED, FINE, BREACHED], FIRING),
    ],
)
def test_the_table_of_states(noon, a_rule, for_ticks, values, state):
    """Ticks are 5 s apart; the rule is breached above 90."""
    alert = after(a_rule(for_duration=for_ticks * TICK), values, noon)

    assert (alert.state if alert else None) is state


@pytest.mark.parametrize(("more", "state"), [(timedelta(), FIRING), (timedelta(microseconds=1), RESOLVED)])
def test_a_silent_series_keeps_its_alert_firing_for_ten_windows(noon, a_rule, more, state):
    rule = a_rule(window=timedelta(seconds=30))
    firing = advance(None, rule, saw(BREACHED), noon)

    alert = advance(firing, rule, saw(SILENT), noon + MAX_SILENT_WINDOWS * rule.window + more)

    assert alert.state is state
    assert alert.value == BREACHED


def test_silence_counts_from_the_last_evaluation_with_data(noon, a_rule):
    rule = a_rule(window=timedelta(seconds=30))
    firing = advance(None, rule, saw(BREACHED), noon)
    seen_again = advance(firing, rule, saw(BREACHED), noon + timedelta(minutes=4))

    assert advance(seen_again, rule, saw(SILENT), noon + timedelta(minutes=8)).state is FIRING


def test_an_alert_tells_its_times_and_its_worst_value(noon, a_rule):
    alert = after(a_rule(for_duration=TICK), [91.0, 99.0, 95.0, 20.0], noon)

    assert alert.breach_time == noon
    assert alert.fire_time == noon + TICK
    assert alert.resolve_time == noon + 3 * TICK
    assert alert.worst_value == 99.0
    assert alert.value == 20.0


def test_below_a_threshold_the_worst_value_is_the_least(noon, a_rule):
    alert = after(a_rule(comparison=Comparison.BELOW, threshold=5.0), [4.0, 1.0, 3.0], noon)

    assert alert.state is FIRING
    assert alert.worst_value == 1.0


def test_a_threshold_that_is_reached_is_not_breached(noon, a_rule):
    for comparison in Comparison:
        assert advance(None, a_rule(comparison=comparison), saw(90.0), noon) is None


def test_the_labels_of_the_rule_lie_over_those_of_the_series(noon, a_rule):
    rule = a_rule(labels=(("core", "any"), ("severity", "page")), annotations=(("summary", "hot"),))

    alert = advance(None, rule, saw(BREACHED), noon)

    assert alert.labels == (("core", "any"), ("severity", "page"))
    assert alert.annotations == (("summary", "hot"),)
    assert alert.display_name == "cpu-high"


def test_an_open_alert_speaks_in_the_words_of_the_rule_as_it_is_now(noon, a_rule):
    firing = advance(None, a_rule(), saw(BREACHED), noon)

    alert = advance(firing, a_rule(threshold=80.0, display_name="CPU is hot"), saw(BREACHED), noon + TICK)

    assert (alert.threshold, alert.display_name) == (80.0, "CPU is hot")
    assert alert.alert_id == firing.alert_id


def test_alerts_whose_series_are_gone_end(noon, a_rule):
    """What fires is resolved; what is pending was nothing."""
    firing = advance(None, a_rule(), saw(BREACHED), noon)
    pending = advance(None, a_rule(for_duration=TICK), Observation(SeriesKey.of("cpu", {}), BREACHED), noon)

    changes = evaluate(a_rule(), [firing, pending], [], noon + TICK)

    assert changes == end_all([firing, pending], noon + TICK)
    assert [change.resolves for change in changes] == [True, False]
    assert changes[1].after is None


def test_an_evaluation_without_news_changes_nothing(noon, a_rule):
    assert evaluate(a_rule(), [], [saw(FINE)], noon) == []
    firing = advance(None, a_rule(), saw(BREACHED), noon)
    assert evaluate(a_rule(), [firing], [saw(SILENT)], noon + TICK) == []


def test_each_series_has_an_alert_of_its_own(noon, a_rule):
    other = Observation(SeriesKey.of("cpu", {"core": "1"}), BREACHED)

    changes = evaluate(a_rule(), [], [saw(BREACHED), other], noon)

    assert [change.fires for change in changes] == [True, True]
    assert len({change.after.alert_id for change in changes}) == 2


VALUES = st.lists(st.sampled_from([BREACHED, FINE, SILENT, 90.0, 200.0]), max_size=40)


@given(values=VALUES, for_ticks=st.integers(0, 4), window_ticks=st.integers(2, 4))
def test_promises_of_every_path(noon, a_rule, values, for_ticks, window_ticks):
    """On every path: an alert fires once, after its `for` of unbroken breach, and is resolved at most once.

    Against a model that knows only the values: whether every one of the last evaluations was breached.
    """
    rule = a_rule(for_duration=for_ticks * TICK, window=window_ticks * TICK)
    alert, fired, resolved = None, set(), set()
    for index, value in enumerate(values):
        now = noon + index * TICK
        for change in evaluate(rule, [alert] if alert else [], [saw(value)], now):
            if change.fires:
                last = values[index - for_ticks : index + 1]
                assert len(last) == for_ticks + 1
                assert all(v is not None and v > 90 for v in last)
                assert change.after.alert_id not in fired
                fired.add(change.after.alert_id)
            if change.resolves:
                assert change.after.alert_id in fired
                assert change.after.alert_id not in resolved
                assert change.after.resolve_time >= change.after.fire_time >= change.after.breach_time
                resolved.add(change.after.alert_id)
            alert = change.after if change.after and change.after.state is not RESOLVED else None
        breached = value is not None and value > 90
        assert breached is False or alert is not None
        if value is not None and not breached:
            assert alert is None
    assert len(fired) - len(resolved) == (1 if alert and alert.state is FIRING else 0)


@given(values=VALUES, for_ticks=st.integers(0, 4))
def test_an_evaluation_that_is_made_twice_changes_nothing(noon, a_rule, values, for_ticks):
    rule, alert = a_rule(for_duration=for_ticks * TICK), None
    for index, value in enumerate(values):
        now = noon + index * TICK
        alert = advance(alert, rule, saw(value), now)
        if alert is not None and alert.state is RESOLVED:
            alert = None
            continue
        assert advance(alert, rule, saw(value), now) == alert


def test_the_id_of_an_alert_is_a_uuid7_of_its_breach(noon):
    """The same breach always has the same id; ids are in the order of time."""
    first = uuid.UUID(alert_id("cpu-high", CPU, noon))

    assert first.version == 7
    assert first.variant == uuid.RFC_4122
    assert first.int >> 80 == int(noon.timestamp() * 1000)
    assert str(first) == alert_id("cpu-high", CPU, noon)
    assert str(first) < alert_id("cpu-high", CPU, noon + timedelta(milliseconds=1))
    others = {alert_id("cpu-hot", CPU, noon), alert_id("cpu-high", SeriesKey.of("cpu", {}), noon)}
    assert len(others | {str(first)}) == 3


def test_a_change_fires_only_where_the_state_changes(noon, a_rule):
    firing = advance(None, a_rule(), saw(BREACHED), noon)
    warmer = replace(firing, value=99.0)

    assert not Change(CPU, firing, warmer).fires
    assert not Change(CPU, firing, warmer).resolves


@pytest.mark.parametrize(
    ("window", "resolution", "buckets"),
    [
        (timedelta(seconds=10), Resolution.TEN_SECONDS, 2),
        (timedelta(seconds=30), Resolution.TEN_SECONDS, 4),
        (timedelta(hours=1), Resolution.TEN_SECONDS, 361),
        (timedelta(hours=24), Resolution.ONE_MINUTE, 1441),
    ],
)
def test_a_window_reaches_back_to_a_whole_bucket(noon, a_rule, window, resolution, buckets):
    """It includes the bucket that is being filled, and the one that the window's begin lies in."""
    seen = a_rule(window=window).window_at(noon)

    assert seen.resolution is resolution
    assert len(seen) == buckets
    assert seen.first <= (noon - window).timestamp()
    assert seen.end > noon.timestamp()


def test_numbers_are_those_of_the_contract():
    for kind, contract, prefix in (
        (AlertState, metrics_pb2.AlertState, "ALERT_STATE"),
        (Comparison, metrics_pb2.Comparison, "COMPARISON"),
    ):
        assert {f"{prefix}_{each.name}": int(each) for each in kind}.items() <= dict(contract.items()).items()
