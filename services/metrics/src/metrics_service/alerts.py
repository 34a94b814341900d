"""Alerts: one breach of a rule by one series, from its begin to its end.

`advance` is the whole state machine. An evaluation gives it what the rule sees now:

| alert   | breached                              | not breached | no data                           | series gone |
|---------|---------------------------------------|--------------|-----------------------------------|-------------|
| none    | PENDING; FIRING where `for` is 0      | none         | none                              | none        |
| PENDING | FIRING once `for` has passed          | none         | none                              | none        |
| FIRING  | FIRING, value and worst value updated | RESOLVED     | FIRING; RESOLVED after 10 windows | RESOLVED    |

A series is gone when its rule is deleted, disabled, or selects it no longer. RESOLVED is final:
the next breach is another alert.
"""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from metrics_service.instants import to_us
from metrics_service.rules import AlertRule, Comparison
from metrics_service.series import Labels, SeriesKey, sort_labels

# A firing alert whose series is silent for this many windows is resolved.
MAX_SILENT_WINDOWS = 10


class AlertState(IntEnum):
    """Numbered as the contract's enum."""

    PENDING = 1
    FIRING = 2
    RESOLVED = 3


@dataclass(frozen=True, slots=True)
class Alert:
    """What is known of one breach.

    `value` is that of the last evaluation that had data, at `value_time`. `traceparent` is that
    of the event that said it fired; empty while pending.
    """

    alert_id: str
    rule_id: str
    display_name: str
    state: AlertState
    series: SeriesKey
    labels: Labels
    annotations: Labels
    comparison: Comparison
    threshold: float
    value: float
    worst_value: float
    value_time: datetime
    breach_time: datetime
    fire_time: datetime | None = None
    resolve_time: datetime | None = None
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts are listed, newest first: `state` None and the empty `rule_id` are all; `before` is an alert_id."""

    state: AlertState | None = None
    rule_id: str = ""
    before: str = ""
    size: int = 50


@dataclass(frozen=True, slots=True)
class Observation:
    """What one evaluation sees of one selected series: the aggregated value, None without data."""

    series: SeriesKey
    value: float | None


def advance(alert: Alert | None, rule: AlertRule, seen: Observation, now: datetime) -> Alert | None:
    """The alert after an evaluation at `now`; None for no alert. Given an alert that is not RESOLVED.

    Time without evaluations counts towards `for` when both its ends are breached.
    """
    if seen.value is None:
        return _without_data(alert, rule, now)
    breached = rule.comparison.breached(seen.value, rule.threshold)
    if alert is None:
        return _fire_when_due(_begin(rule, seen.series, seen.value, now), rule, now) if breached else None
    current = _observed(alert, rule, seen.value, now)
    return _fire_when_due(current, rule, now) if breached else end(current, now)


def end(alert: Alert, now: datetime) -> Alert | None:
    """The alert once its breach is over: a firing one is resolved, a pending one was nothing."""
    if alert.state is AlertState.PENDING:
        return None
    return replace(alert, state=AlertState.RESOLVED, resolve_time=now)


def _without_data(alert: Alert | None, rule: AlertRule, now: datetime) -> Alert | None:
    if alert is None or alert.state is AlertState.PENDING:
        return None
    silent = now - alert.value_time
    return end(alert, now) if silent > MAX_SILENT_WINDOWS * rule.window else alert


def _begin(rule: AlertRule, series: SeriesKey, value: float, now: datetime) -> Alert:
    return Alert(
        alert_id=alert_id(rule.rule_id, series, now),
        rule_id=rule.rule_id,
        display_name=rule.title,
        state=AlertState.PENDING,
        series=series,
        labels=sort_labels({**dict(series.labels), **dict(rule.labels)}),
        annotations=rule.annotations,
        comparison=rule.comparison,
        threshold=rule.threshold,
        value=value,
        worst_value=value,
        value_time=now,
        breach_time=now,
    )


def _observed(alert: Alert, rule: AlertRule, value: float, now: datetime) -> Alert:
    """The alert with what this evaluation saw, in the words of the rule as it is now."""
    return replace(
        alert,
        display_name=rule.title,
        labels=sort_labels({**dict(alert.series.labels), **dict(rule.labels)}),
        annotations=rule.annotations,
        comparison=rule.comparison,
        threshold=rule.threshold,
        value=value,
        worst_value=rule.comparison.worse(alert.worst_value, value),
        value_time=now,
    )


def _fire_when_due(alert: Alert, rule: AlertRule, now: datetime) -> Alert:
    if alert.state is AlertState.PENDING and now - alert.breach_time >= rule.for_duration:
        return replace(alert, state=AlertState.FIRING, fire_time=now)
    return alert


def alert_id(rule_id: str, series: SeriesKey, breach_time: datetime) -> str:
    """A UUIDv7 (RFC 9562) of the breach's begin; the same breach always has the same one."""
    digest = hashlib.sha256(f"{rule_id}/{to_us(breach_time)}/".encode() + series.fingerprint).digest()
    value = (to_us(breach_time) // 1000) << 80 | int.from_bytes(digest[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


@dataclass(frozen=True, slots=True)
class Change:
    """What an evaluation does to the alert of one series; `after` None: there is none, and never was."""

    series: SeriesKey
    before: Alert | None
    after: Alert | None

    @property
    def fires(self) -> bool:
        return self._reaches(AlertState.FIRING)

    @property
    def resolves(self) -> bool:
        return self._reaches(AlertState.RESOLVED)

    def _reaches(self, state: AlertState) -> bool:
        before = self.before.state if self.before else None
        return self.after is not None and self.after.state is state and before is not state


def evaluate(
    rule: AlertRule, open_alerts: Iterable[Alert], observations: Iterable[Observation], now: datetime
) -> list[Change]:
    """What changes for one rule: its alerts that are not RESOLVED, against every series that it selects now."""
    known = {alert.series.fingerprint: alert for alert in open_alerts}
    changes = []
    for seen in observations:
        before = known.pop(seen.series.fingerprint, None)
        changes.append(Change(seen.series, before, advance(before, rule, seen, now)))
    return [change for change in changes if change.before != change.after] + end_all(known.values(), now)


def end_all(open_alerts: Iterable[Alert], now: datetime) -> list[Change]:
    """What changes when the series of these alerts are gone."""
    return [Change(alert.series, alert, end(alert, now)) for alert in open_alerts]
