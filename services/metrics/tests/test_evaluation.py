"""Evaluations against the database: alerts, and the events that they owe, once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from chassis import outbox
from metrics_service import alert_store, ingestion, rule_store
from metrics_service.alert_store import FIRED, RESOLVED, Evaluation
from metrics_service.alerts import AlertFilter, AlertState
from metrics_service.evaluation import evaluate_rules
from metrics_service.ingestion import Batch
from metrics_service.instants import to_us
from metrics_service.schema import ALERTS
from waybill.metrics.v1 import metrics_pb2

TICK = timedelta(seconds=5)
PENDING, FIRING, RESOLVED_STATE = AlertState


@pytest.fixture
def bring(engine, noon, a_sample):
    """An ingestion with a trace of its own, whose number is given."""

    def apply(value, *, at=noon, ingestion_number=77, **labels):
        traceparent = f"00-{ingestion_number:032x}-{ingestion_number:016x}-01"
        batch_id = f"{ingestion_number}/{to_us(at)}/{value}/{labels}"[:36]
        ingestion.apply(engine, Batch(batch_id, [a_sample(value, at=at, **labels)], 0, traceparent), at)
        return traceparent

    return apply


@pytest.fixture
def create(engine, noon, a_rule):
    def rule(**given):
        return rule_store.create(engine, a_rule(**given), noon).rule

    return rule


@pytest.fixture
def tick(engine, an_attempt):
    def evaluate(at, attempt=None):
        return evaluate_rules(engine, attempt or an_attempt(), at)

    return evaluate


@pytest.fixture
def alerts(engine):
    return lambda: alert_store.list_alerts(engine, AlertFilter())


@pytest.fixture
def owed(engine):
    def events():
        with engine.connect() as connection:
            return outbox.pending(connection)

    return events


@pytest.fixture
def firing(create, bring, tick, noon):
    """A rule whose alert fires at noon."""
    rule = create()
    bring(95.0)
    tick(noon)
    return rule


@pytest.fixture
def change_rule(engine, a_rule, noon):
    def change(how):
        match how:
            case "deleted":
                rule_store.delete(engine, "cpu-high")
            case "disabled":
                rule_store.update(engine, a_rule(disabled=True), noon)
            case "narrowed":
                rule_store.update(engine, a_rule(where={"core": "0"}), noon)

    return change


def test_a_breach_without_for_fires_at_once(create, bring, tick, alerts, owed, noon):
    create()
    bring(95.0)

    assert tick(noon) == Evaluation(to_us(noon), evaluated=1, fired=1)

    (alert,) = alerts()
    assert alert.state is FIRING
    assert (alert.value, alert.worst_value, alert.fire_time) == (95.0, 95.0, noon)
    (event,) = owed()
    assert (event.type, event.subject) == (FIRED, alert.alert_id)


def test_a_breach_fires_when_it_has_lasted(create, bring, tick, alerts, owed, noon):
    create(for_duration=2 * TICK)
    bring(95.0)

    assert [tick(noon + n * TICK).fired for n in range(4)] == [0, 0, 1, 0]
    assert len(owed()) == 1
    (alert,) = alerts()
    assert (alert.breach_time, alert.fire_time) == (noon, noon + 2 * TICK)


def test_a_breach_that_ends_before_it_has_lasted_leaves_no_alert(create, bring, tick, alerts, owed, noon):
    create(for_duration=timedelta(minutes=5), window=timedelta(seconds=10))
    bring(95.0)
    tick(noon)
    assert [alert.state for alert in alerts()] == [PENDING]
    bring(1.0, at=noon + timedelta(minutes=1))

    tick(noon + timedelta(minutes=1))

    assert alerts() == []
    assert owed() == []


def test_the_incident_is_one_trace(create, bring, tick, alerts, owed, an_attempt, noon):
    """Firing starts in the trace of its evaluation, resolving continues it; both link to the ingestions."""
    create(window=timedelta(seconds=10))
    first_ingestion = bring(95.0, ingestion_number=70)
    firing, resolving = an_attempt(1), an_attempt(2)
    tick(noon, firing)
    last_ingestion = bring(1.0, at=noon + timedelta(minutes=1), ingestion_number=71)
    tick(noon + timedelta(minutes=1), resolving)

    fired, resolved = owed()
    (alert,) = alerts()
    assert fired.parent == firing.traceparent
    assert fired.links == (first_ingestion,)
    assert alert.traceparent == fired.traceparent
    assert (resolved.type, resolved.parent) == (RESOLVED, fired.traceparent)
    assert resolved.links == (resolving.traceparent, last_ingestion)
    assert resolved.traceparent.split("-")[1] == f"{1:032x}"


def test_events_say_what_was_known(create, bring, tick, owed, noon):
    create(
        window=timedelta(seconds=10),
        labels=(("severity", "page"),),
        annotations=(("summary", "hot"),),
        display_name="CPU is hot",
    )
    bring(95.0, core="0")
    tick(noon)
    bring(1.0, at=noon + timedelta(minutes=1), core="0")
    tick(noon + timedelta(minutes=1))

    fired, resolved = metrics_pb2.AlertFired(), metrics_pb2.AlertResolved()
    first, second = owed()
    assert first.data.Unpack(fired)
    assert second.data.Unpack(resolved)
    assert fired.alert.state == metrics_pb2.ALERT_STATE_FIRING
    assert fired.alert.trace_id == f"{1:032x}"
    assert dict(fired.alert.labels) == {"core": "0", "severity": "page"}
    assert fired.alert.annotations["summary"] == "hot"
    assert fired.alert.display_name == "CPU is hot"
    assert not fired.alert.HasField("resolve_time")
    assert resolved.alert.state == metrics_pb2.ALERT_STATE_RESOLVED
    assert resolved.alert.trace_id == fired.alert.trace_id
    assert resolved.alert.alert_id == fired.alert.alert_id
    assert (resolved.alert.value, resolved.alert.worst_value) == (1.0, 95.0)
    assert resolved.alert.resolve_time.ToDatetime(tzinfo=noon.tzinfo) == noon + timedelta(minutes=1)


def test_a_tick_that_is_attempted_twice_fires_once(create, bring, tick, alerts, owed, an_attempt, noon):
    """A worker killed between its commit and its settle: the next attempt tells what the first one did."""
    create()
    bring(95.0)
    attempt = an_attempt()

    first = tick(noon, attempt)
    before = (alerts(), owed())
    second = tick(noon, attempt)

    assert second == first
    assert (alerts(), owed()) == before


def test_an_alert_that_fires_is_not_fired_again(create, bring, tick, owed, noon):
    create()
    bring(95.0)

    assert [tick(noon + n * TICK).fired for n in range(3)] == [1, 0, 0]
    assert len(owed()) == 1


def test_a_tick_that_comes_late_does_not_take_an_alert_back(create, bring, tick, alerts, noon):
    """Ticks may run out of order; the state of an alert never goes back."""
    create()
    bring(95.0)
    tick(noon + TICK)
    before = alerts()

    assert tick(noon) == Evaluation(to_us(noon))
    assert alerts() == before


def test_ticks_at_the_same_time_fire_once(engine, create, bring, alerts, owed, an_attempt, noon):
    """Four threads evaluate ten ticks each, the same ones; each alert fires once."""
    create()
    bring(95.0)
    begin = threading.Barrier(4)

    def work(_):
        begin.wait()
        for number in range(10):
            evaluate_rules(engine, an_attempt(), noon + number * timedelta(seconds=1))

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))

    assert [alert.state for alert in alerts()] == [FIRING]
    assert [event.type for event in owed()] == [FIRED]


def test_an_evaluation_that_was_overtaken_writes_nothing(engine, create, bring, alerts, owed, an_attempt, noon):
    create()
    bring(95.0)
    with engine.connect() as connection:
        seen = alert_store.last_evaluation(connection)
    evaluate_rules(engine, an_attempt(), noon)
    before = (alerts(), owed())

    applied = alert_store.apply(engine, an_attempt(), Evaluation(to_us(noon + TICK)), [], after=seen)

    assert applied is False
    assert (alerts(), owed()) == before


@pytest.mark.parametrize("gone", ["deleted", "disabled", "narrowed"])
def test_a_rule_that_is_gone_resolves_what_it_fired(firing, change_rule, tick, alerts, owed, noon, gone):
    """Deleted, disabled, or changed so that it selects the series no longer."""
    change_rule(gone)

    assert tick(noon + TICK).resolved == 1

    assert [alert.state for alert in alerts()] == [RESOLVED_STATE]
    assert [event.type for event in owed()] == [FIRED, RESOLVED]


def test_a_breach_after_a_resolved_one_is_another_alert(create, bring, tick, alerts, noon):
    create(window=timedelta(seconds=10))
    for minute, value in enumerate([95.0, 1.0, 95.0]):
        at = noon + timedelta(minutes=minute)
        bring(value, at=at)
        tick(at)

    newest, oldest = alerts()
    assert (newest.state, oldest.state) == (FIRING, RESOLVED_STATE)
    assert newest.alert_id > oldest.alert_id


def test_rules_look_at_their_own_metric_and_labels(create, bring, tick, alerts, noon):
    create(where={"core": "1"})
    create(rule_id="memory-high", metric="memory")
    bring(95.0, core="0")

    assert tick(noon) == Evaluation(to_us(noon), evaluated=2)
    assert alerts() == []


def test_an_evaluation_that_fails_half_way_leaves_nothing(engine, create, bring, tick, owed, noon):
    """Alerts, events and the evaluation itself are one transaction."""
    create()
    bring(95.0)
    with engine.begin() as connection:
        ALERTS.drop(connection)
        connection.execute(sa.text("CREATE VIEW alerts AS SELECT * FROM series WHERE 1 = 0"))
    with pytest.raises(sa.exc.DBAPIError):
        tick(noon)

    with engine.begin() as connection:
        connection.execute(sa.text("DROP VIEW alerts"))
        ALERTS.create(connection)
    assert owed() == []
    assert tick(noon).fired == 1


def test_alerts_are_listed_newest_first_by_state_and_rule(engine, create, bring, tick, noon):
    create(window=timedelta(seconds=10))
    create(rule_id="cpu-warm", threshold=50.0, window=timedelta(seconds=10))
    for minute, value in enumerate([95.0, 1.0, 60.0]):
        at = noon + timedelta(minutes=minute)
        bring(value, at=at)
        tick(at)

    def listed(**given):
        return [(a.rule_id, a.state) for a in alert_store.list_alerts(engine, AlertFilter(**given))]

    assert listed()[0] == ("cpu-warm", FIRING)
    assert len(listed()) == 3
    assert listed(state=FIRING) == [("cpu-warm", FIRING)]
    assert listed(rule_id="cpu-high") == [("cpu-high", RESOLVED_STATE)]
    assert len(listed(size=1)) == 2
    newest = alert_store.list_alerts(engine, AlertFilter(size=1))[0]
    assert len(listed(before=newest.alert_id)) == 2
