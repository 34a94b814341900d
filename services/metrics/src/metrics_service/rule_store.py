"""Alert rules, as the database keeps them."""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from chassis.database import insert_ignore
from chassis.errors import AlreadyExists, NotFound

from metrics_service.columns import dump_labels, load_labels
from metrics_service.instants import duration_of, duration_us, from_us, to_us
from metrics_service.queries import Matcher, MatchOperator, Selector
from metrics_service.rollups import Aggregation
from metrics_service.rules import AlertRule, Comparison, StoredRule
from metrics_service.schema import ALERT_RULES


def create(engine: sa.Engine, rule: AlertRule, now: datetime) -> StoredRule:
    """Raises AlreadyExists when the rule_id is taken by a different rule; the same rule again is the one there."""
    row = {**_row(rule), "create_time_us": to_us(now), "update_time_us": to_us(now)}
    with engine.begin() as connection:
        connection.execute(insert_ignore(ALERT_RULES, row, ["rule_id"]))
        stored = _get(connection, rule.rule_id)
    if stored.rule != rule:
        raise AlreadyExists(
            f"alert rule {rule.rule_id} exists and says something else",
            reason="ALERT_RULE_EXISTS",
            metadata={"rule_id": rule.rule_id},
        )
    return stored


def get(engine: sa.Engine, rule_id: str) -> StoredRule:
    """Raises NotFound."""
    with engine.connect() as connection:
        return _get(connection, rule_id)


def update(engine: sa.Engine, rule: AlertRule, now: datetime) -> StoredRule:
    """Replace the rule of this rule_id whole; raises NotFound."""
    same = ALERT_RULES.c.rule_id == rule.rule_id
    with engine.begin() as connection:
        connection.execute(sa.update(ALERT_RULES).where(same).values(**_row(rule), update_time_us=to_us(now)))
        return _get(connection, rule.rule_id)


def delete(engine: sa.Engine, rule_id: str) -> None:
    """Raises NotFound."""
    with engine.begin() as connection:
        deleted = connection.execute(sa.delete(ALERT_RULES).where(ALERT_RULES.c.rule_id == rule_id))
    if not deleted.rowcount:
        raise _not_found(rule_id)


def list_rules(engine: sa.Engine, after: str, limit: int) -> list[StoredRule]:
    """Rules by rule_id, after that one."""
    chosen = sa.select(ALERT_RULES).where(ALERT_RULES.c.rule_id > after)
    with engine.connect() as connection:
        return [_stored(row) for row in connection.execute(chosen.order_by(ALERT_RULES.c.rule_id).limit(limit))]


def enabled(connection: sa.Connection) -> list[AlertRule]:
    """Every rule that is to be evaluated."""
    chosen = sa.select(ALERT_RULES).where(ALERT_RULES.c.disabled.is_(False)).order_by(ALERT_RULES.c.rule_id)
    return [_stored(row).rule for row in connection.execute(chosen)]


def _get(connection: sa.Connection, rule_id: str) -> StoredRule:
    row = connection.execute(sa.select(ALERT_RULES).where(ALERT_RULES.c.rule_id == rule_id)).one_or_none()
    if row is None:
        raise _not_found(rule_id)
    return _stored(row)


def _not_found(rule_id: str) -> NotFound:
    return NotFound(
        f"alert rule {rule_id} does not exist", reason="ALERT_RULE_NOT_FOUND", metadata={"rule_id": rule_id}
    )


def _row(rule: AlertRule) -> dict[str, Any]:
    matchers = [[matcher.label, int(matcher.operator), matcher.value] for matcher in rule.selector.matchers]
    return {
        "rule_id": rule.rule_id,
        "display_name": rule.display_name,
        "metric": rule.selector.metric,
        "matchers": json.dumps(matchers, separators=(",", ":")),
        "aggregation": int(rule.aggregation),
        "comparison": int(rule.comparison),
        "threshold": rule.threshold,
        "window_us": duration_us(rule.window),
        "for_us": duration_us(rule.for_duration),
        "labels": dump_labels(rule.labels),
        "annotations": dump_labels(rule.annotations),
        "disabled": rule.disabled,
    }


def _stored(row: sa.Row[Any]) -> StoredRule:
    matchers = [Matcher(label, MatchOperator(operator), value) for label, operator, value in json.loads(row.matchers)]
    rule = AlertRule(
        rule_id=row.rule_id,
        display_name=row.display_name,
        selector=Selector(row.metric, tuple(matchers)),
        aggregation=Aggregation(row.aggregation),
        comparison=Comparison(row.comparison),
        threshold=row.threshold,
        window=duration_of(row.window_us),
        for_duration=duration_of(row.for_us),
        labels=load_labels(row.labels),
        annotations=load_labels(row.annotations),
        disabled=row.disabled,
    )
    return StoredRule(rule, from_us(row.create_time_us), from_us(row.update_time_us))
