"""Alerts and evaluations, as the database keeps them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from chassis import outbox
from chassis.database import insert_ignore, upsert
from chassis.outbox import OwingAttempt
from waybill.metrics.v1 import metrics_pb2 as pb

from metrics_service import responses
from metrics_service.alerts import Alert, AlertFilter, AlertState, Change
from metrics_service.columns import dump_labels, load_labels
from metrics_service.instants import from_us, to_us
from metrics_service.rules import Comparison
from metrics_service.schema import ALERTS, EVALUATION
from metrics_service.series import SeriesKey

FIRED = "waybill.metrics.alert.fired"
RESOLVED = "waybill.metrics.alert.resolved"
_ONLY = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation did, and the instant that it was for."""

    time_us: int
    evaluated: int = 0
    fired: int = 0
    resolved: int = 0


@dataclass(frozen=True, slots=True)
class TracedChange:
    """A change, and the trace context of the ingestion that brought the series' last samples; empty for none."""

    change: Change
    ingestion: str = ""


def list_alerts(engine: sa.Engine, wanted: AlertFilter) -> list[Alert]:
    """Alerts, newest first, one more than asked for where there are more."""
    chosen = sa.select(ALERTS).order_by(ALERTS.c.alert_id.desc()).limit(wanted.size + 1)
    if wanted.state is not None:
        chosen = chosen.where(ALERTS.c.state == int(wanted.state))
    if wanted.rule_id:
        chosen = chosen.where(ALERTS.c.rule_id == wanted.rule_id)
    if wanted.before:
        chosen = chosen.where(ALERTS.c.alert_id < wanted.before)
    with engine.connect() as connection:
        return [_alert(row) for row in connection.execute(chosen)]


def open_alerts(connection: sa.Connection) -> dict[str, list[Alert]]:
    """Alerts that are not resolved, by rule_id."""
    found: dict[str, list[Alert]] = {}
    chosen = sa.select(ALERTS).where(ALERTS.c.state != int(AlertState.RESOLVED)).order_by(ALERTS.c.alert_id)
    for row in connection.execute(chosen):
        found.setdefault(row.rule_id, []).append(_alert(row))
    return found


def last_evaluation(connection: sa.Connection) -> Evaluation:
    """The last evaluation; one for the instant 0 where there was none."""
    row = connection.execute(sa.select(EVALUATION)).one_or_none()
    return Evaluation(row.time_us, row.evaluated, row.fired, row.resolved) if row else Evaluation(0)


def apply(
    engine: sa.Engine,
    attempt: OwingAttempt,
    evaluation: Evaluation,
    changes: Sequence[TracedChange],
    *,
    after: Evaluation,
) -> bool:
    """Write an evaluation, its alerts and the events they owe in one transaction.

    False, and nothing written, when `after` is no longer the last evaluation: what the changes
    were computed from is out of date.
    """
    with engine.begin() as connection:
        if not _advance(connection, evaluation, after):
            return False
        _forget(connection, [c.change.before for c in changes if c.change.before and c.change.after is None])
        for changed in changes:
            if alert := _owed(connection, attempt, changed):
                _put(connection, alert)
    return True


def _advance(connection: sa.Connection, evaluation: Evaluation, after: Evaluation) -> bool:
    """Compare and set, so that of two evaluations at a time one begins anew."""
    first = {"id": _ONLY, "time_us": 0, "evaluated": 0, "fired": 0, "resolved": 0, "prune_time_us": 0}
    connection.execute(insert_ignore(EVALUATION, first, ["id"]))
    moved = (
        sa.update(EVALUATION)
        .where(EVALUATION.c.time_us == after.time_us)
        .values(
            time_us=evaluation.time_us,
            evaluated=evaluation.evaluated,
            fired=evaluation.fired,
            resolved=evaluation.resolved,
        )
    )
    return connection.execute(moved).rowcount == 1


def _forget(connection: sa.Connection, alerts: Iterable[Alert]) -> None:
    """Delete pending alerts whose breach has ended: they never were."""
    gone = [alert.alert_id for alert in alerts]
    if gone:
        connection.execute(sa.delete(ALERTS).where(ALERTS.c.alert_id.in_(gone)))


def _owed(connection: sa.Connection, attempt: OwingAttempt, changed: TracedChange) -> Alert | None:
    """Owe the event of a change that has one; returns the alert as it is to be kept."""
    alert = changed.change.after
    if alert is not None and changed.change.fires:
        return _owe_fired(connection, attempt, alert, changed.ingestion)
    if alert is not None and changed.change.resolves:
        _owe_resolved(connection, attempt, alert, changed.ingestion)
    return alert


def _owe_fired(connection: sa.Connection, attempt: OwingAttempt, alert: Alert, ingestion: str) -> Alert:
    """The event starts the incident in the trace of the evaluation; the alert keeps the event's own context."""
    event_id = outbox.owe(
        connection,
        attempt,
        key=f"{alert.alert_id}/fired",
        type=FIRED,
        subject=alert.alert_id,
        data=pb.AlertFired(alert=responses.alert(alert, attempt.traceparent)),
        links=_links(ingestion),
    )
    return replace(alert, traceparent=outbox.traceparent_of(event_id, attempt.traceparent))


def _owe_resolved(connection: sa.Connection, attempt: OwingAttempt, alert: Alert, ingestion: str) -> None:
    """The event continues the incident's trace and links to the evaluation that saw its end."""
    outbox.owe(
        connection,
        attempt,
        key=f"{alert.alert_id}/resolved",
        type=RESOLVED,
        subject=alert.alert_id,
        data=pb.AlertResolved(alert=responses.alert(alert)),
        parent=alert.traceparent or None,
        links=_links(attempt.traceparent, ingestion),
    )


def _links(*traceparents: str) -> list[str]:
    return [traceparent for traceparent in traceparents if traceparent]


def _put(connection: sa.Connection, alert: Alert) -> None:
    row = _row(alert)
    connection.execute(upsert(ALERTS, row, keys=["alert_id"], update=[name for name in row if name != "alert_id"]))


def _row(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "rule_id": alert.rule_id,
        "display_name": alert.display_name,
        "state": int(alert.state),
        "metric": alert.series.metric,
        "series_labels": dump_labels(alert.series.labels),
        "labels": dump_labels(alert.labels),
        "annotations": dump_labels(alert.annotations),
        "comparison": int(alert.comparison),
        "threshold": alert.threshold,
        "value": alert.value,
        "worst_value": alert.worst_value,
        "value_time_us": to_us(alert.value_time),
        "breach_time_us": to_us(alert.breach_time),
        "fire_time_us": to_us(alert.fire_time) if alert.fire_time else None,
        "resolve_time_us": to_us(alert.resolve_time) if alert.resolve_time else None,
        "traceparent": alert.traceparent,
    }


def _alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        alert_id=row.alert_id,
        rule_id=row.rule_id,
        display_name=row.display_name,
        state=AlertState(row.state),
        series=SeriesKey(row.metric, load_labels(row.series_labels)),
        labels=load_labels(row.labels),
        annotations=load_labels(row.annotations),
        comparison=Comparison(row.comparison),
        threshold=row.threshold,
        value=row.value,
        worst_value=row.worst_value,
        value_time=from_us(row.value_time_us),
        breach_time=from_us(row.breach_time_us),
        fire_time=from_us(row.fire_time_us) if row.fire_time_us is not None else None,
        resolve_time=from_us(row.resolve_time_us) if row.resolve_time_us is not None else None,
        traceparent=row.traceparent,
    )
