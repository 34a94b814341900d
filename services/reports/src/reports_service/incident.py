"""The report of a resolved alert: which series it shows, and what it says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reports_service.documents import NONE, Chart, Document, Series, Status, Table, Text, Tone, Window, utc
from reports_service.queries import Answer
from reports_service.units import Scale, duration, number, scale

_ACRONYMS = {word.lower(): word for word in ("CPU", "IO", "HTTP", "RPC", "GC", "DNS", "TCP", "UDP", "JVM", "SQL")}
_MAX_LABEL_FACTS = 10
# Annotations that are prose; the others are facts.
_PROSE = ("summary", "description")


@dataclass(frozen=True, slots=True)
class Incident:
    """One breach of a rule by one series, from its begin to its end."""

    alert_id: str
    rule_id: str
    name: str
    metric: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    # The values beyond the threshold are those above it; else those below.
    above: bool
    threshold: float
    worst: float
    began: datetime
    fired: datetime
    resolved: datetime
    trace_id: str

    @property
    def breach(self) -> Window:
        return Window(self.began, self.resolved)

    @property
    def side(self) -> str:
        return "above" if self.above else "below"

    def beyond(self, value: float) -> bool:
        """Whether the value breaches the threshold."""
        return value > self.threshold if self.above else value < self.threshold


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A chart of the report: what it shows, and the answer that it is drawn from."""

    title: str
    metric: str
    answer: Answer
    note: str = ""


def humane(metric: str) -> str:
    """`system.cpu.utilization` as `System CPU utilization`."""
    words = [_ACRONYMS.get(word.lower(), word) for word in re.split(r"[\s._/:-]+", metric) if word]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def report(
    incident: Incident,
    breached: Exhibit,
    related: Sequence[Exhibit],
    *,
    window: Window,
    report_id: str,
    created: datetime,
) -> Document:
    """The document; `breached` shows the series of the alert, `related` what lies near it."""
    series = next(iter(breached.answer.series), None)
    shown = scale_of(incident, series)
    phases = _phases(incident, series, shown) if series and series.samples else ()
    return Document(
        report_id=report_id,
        kicker="Incident report",
        title=incident.name,
        subtitle=f"{incident.metric} {incident.side} {shown.format(incident.threshold)} for {_lasted(incident)}",
        created=created,
        status=Status(Tone.GOOD, "Resolved", f"after {_lasted(incident)}, at {utc(incident.resolved)}"),
        headlines=_headlines(incident, shown),
        facts=_facts(incident),
        sections=(
            Text("What happened", (*_prose(incident), _summary(incident, shown))),
            _chart(breached, incident, window, threshold=incident.threshold),
            *phases,
            *(_chart(exhibit, incident, window) for exhibit in related),
            *_label_table(incident),
        ),
    )


def scale_of(incident: Incident, series: Series | None) -> Scale:
    """The scale in which threshold and worst value are said."""
    unit = series.unit if series else ""
    return scale(unit, max(abs(incident.threshold), abs(incident.worst)), incident.metric)


def _chart(exhibit: Exhibit, incident: Incident, window: Window, threshold: float | None = None) -> Chart:
    return Chart(
        title=exhibit.title,
        metric=exhibit.metric,
        series=exhibit.answer.series,
        window=window,
        step=exhibit.answer.step,
        threshold=threshold,
        incident=incident.breach,
        fired=incident.fired,
        note=exhibit.note,
        omitted=exhibit.answer.omitted,
    )


def _lasted(incident: Incident) -> str:
    return duration(incident.breach.duration)


def _headlines(incident: Incident, shown: Scale) -> tuple[tuple[str, str], ...]:
    return (
        ("Worst value", shown.format(incident.worst)),
        ("Threshold", f"{'>' if incident.above else '<'} {shown.format(incident.threshold)}"),
        ("Duration", _lasted(incident)),
        ("Until it fired", duration(incident.fired - incident.began)),
    )


def _facts(incident: Incident) -> tuple[tuple[str, str], ...]:
    labels = sorted(incident.labels.items()) if len(incident.labels) <= _MAX_LABEL_FACTS else []
    notes = sorted((key, value) for key, value in incident.annotations.items() if key not in _PROSE)
    facts = (
        ("Rule", incident.rule_id),
        ("Metric", incident.metric),
        ("Began", utc(incident.began)),
        ("Fired", utc(incident.fired)),
        ("Resolved", utc(incident.resolved)),
        *labels,
        *notes,
        ("Alert", incident.alert_id),
        ("Trace", incident.trace_id),
    )
    return tuple((label, value) for label, value in facts if value)


def _prose(incident: Incident) -> Iterable[str]:
    return (incident.annotations[key] for key in _PROSE if incident.annotations.get(key, "").strip())


def _summary(incident: Incident, shown: Scale) -> str:
    began, resolved = incident.began.astimezone(UTC), incident.resolved.astimezone(UTC)
    until = f"{resolved:%H:%M:%S}" if began.date() == resolved.date() else f"{resolved:%Y-%m-%d %H:%M:%S}"
    return (
        f"{incident.metric} was {incident.side} its threshold of {shown.format(incident.threshold)} "
        f"from {began:%Y-%m-%d %H:%M:%S} to {until} UTC, for {_lasted(incident)}. {_firing(incident)} "
        f"The worst value that an evaluation saw was {shown.format(incident.worst)}{_times(incident)}."
    )


def _firing(incident: Incident) -> str:
    if incident.fired - incident.began < timedelta(seconds=1):
        return "The alert fired at once."
    waited = duration(incident.fired - incident.began)
    return (
        f"The alert fired at {incident.fired.astimezone(UTC):%H:%M:%S} UTC, {waited} after the breach was first seen."
    )


def _times(incident: Incident) -> str:
    if not (incident.above and incident.threshold > 0 and incident.worst > incident.threshold):
        return ""
    return f", {number(incident.worst / incident.threshold)} times the threshold"


def _phases(incident: Incident, series: Series, shown: Scale) -> tuple[Table, ...]:
    """How the breached series was before, during and after."""
    breach = incident.breach
    phases = {
        "Before": [s.value for s in series.samples if s.time < breach.start],
        "During": [s.value for s in series.samples if breach.start <= s.time < breach.end],
        "After": [s.value for s in series.samples if s.time >= breach.end],
    }
    rows = tuple(_phase(name, values, incident, shown) for name, values in phases.items())
    columns = ("Phase", "Values", "Min", "Mean", "Max", f"{incident.side.capitalize()} threshold")
    return (Table("Before, during and after", columns, rows),)


def _phase(name: str, values: Sequence[float], incident: Incident, shown: Scale) -> tuple[str, ...]:
    if not values:
        return (name, "0", *[NONE] * 4)
    share = sum(map(incident.beyond, values)) / len(values)
    figures = (min(values), sum(values) / len(values), max(values))
    return (name, str(len(values)), *map(shown.aligned, figures), Scale(100.0, "%").aligned(share))


def _label_table(incident: Incident) -> tuple[Table, ...]:
    if len(incident.labels) <= _MAX_LABEL_FACTS:
        return ()
    return (Table("Labels", ("Label", "Value"), tuple(sorted(incident.labels.items()))),)
