"""One evaluation of every enabled rule: read, decide, write, and begin anew when another one came between."""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from chassis.errors import TransientError
from chassis.outbox import OwingAttempt

from metrics_service import alert_store, rule_store, series_store
from metrics_service.alert_store import Evaluation, TracedChange
from metrics_service.alerts import Change, Observation, end_all, evaluate
from metrics_service.instants import to_us
from metrics_service.rules import AlertRule
from metrics_service.series import SeriesRecord

_MAX_ROUNDS = 3


def evaluate_rules(engine: sa.Engine, attempt: OwingAttempt, now: datetime) -> Evaluation:
    """Evaluate for the instant `now`; once, whatever the number of attempts and of ticks at a time.

    An evaluation that is already written is returned as it was; one that is older than the last
    does nothing, so the state of an alert never goes back. Rules are read and decided on outside
    of the writing transaction, which ingestion would wait for.
    """
    for _ in range(_MAX_ROUNDS):
        with engine.connect() as connection:
            last = alert_store.last_evaluation(connection)
            if last.time_us >= to_us(now):
                return last if last.time_us == to_us(now) else Evaluation(to_us(now))
            evaluation, changes = _look(connection, now)
        if alert_store.apply(engine, attempt, evaluation, changes, after=last):
            return evaluation
    raise TransientError("other evaluations came between, each time", reason="EVALUATION_OVERTAKEN")


def _look(connection: sa.Connection, now: datetime) -> tuple[Evaluation, list[TracedChange]]:
    rules = rule_store.enabled(connection)
    alerts = alert_store.open_alerts(connection)
    known = series_store.records_of(connection, {rule.selector.metric for rule in rules})
    changes: list[Change] = []
    for rule in rules:
        seen = _observe(connection, rule, known.get(rule.selector.metric, []), now)
        changes += evaluate(rule, alerts.pop(rule.rule_id, []), seen, now)
    for left in alerts.values():
        changes += end_all(left, now)
    fired, resolved = sum(change.fires for change in changes), sum(change.resolves for change in changes)
    return Evaluation(to_us(now), len(rules), fired, resolved), _traced(changes, known.values())


def _observe(
    connection: sa.Connection, rule: AlertRule, known: Iterable[SeriesRecord], now: datetime
) -> list[Observation]:
    """What the rule sees of every series that it selects."""
    selected = rule.selector.choose(record.key for record in known)
    if not selected:
        return []
    values = series_store.window_values(connection, rule.selector.metric, rule.aggregation, rule.window_at(now))
    return [Observation(key, values.get(key.fingerprint)) for key in selected]


def _traced(changes: Iterable[Change], known: Iterable[Iterable[SeriesRecord]]) -> list[TracedChange]:
    """The changes, each with the trace context of the ingestion that brought its series' last samples."""
    contexts = {record.key: record.traceparent for records in known for record in records}
    return [TracedChange(change, contexts.get(change.series, "")) for change in changes]
