"""Which series an incident report shows beside the one that breached: those of the same source that tell most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reports_service.documents import Window
from reports_service.incident import Incident, humane
from reports_service.queries import Aggregation, Answer, KnownSeries, Matcher, Query

MAX_RELATED = 3

# Labels that say where a series comes from. Source: OpenTelemetry resource conventions, and Prometheus.
_SOURCE_LABELS = (
    "service.namespace",
    "service.name",
    "service.instance.id",
    "host.name",
    "host.id",
    "k8s.pod.name",
    "container.id",
    "job",
    "instance",
)
# What an operator looks at first. Source: OpenTelemetry system and process conventions.
_WELL_KNOWN = (
    "system.cpu.utilization",
    "system.memory.utilization",
    "process.cpu.utilization",
    "process.memory.usage",
    "system.memory.usage",
    "system.network.io",
    "system.disk.io",
)
# Ever growing sums of time: a line that only climbs says little.
_DULL = (".time", "_seconds_total")
_CROWD = 12
_MIN_PAD, _MAX_PAD = timedelta(minutes=2), timedelta(hours=2)
_LISTED = ("system.", "process.")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chart that may be shown, if its query finds samples."""

    title: str
    query: Query


def window_of(incident: Incident, breached: KnownSeries | None, created: datetime) -> Window:
    """The breach with half its length before and after, at least 2 min and at most 2 h of each.

    It begins no earlier than the series does and ends no later than the report is made.
    """
    pad = min(max(incident.breach.duration / 2, _MIN_PAD), _MAX_PAD)
    first = min(breached.first_time, incident.began) if breached else incident.began - pad
    start = max(incident.began - pad, first)
    start = start.replace(second=start.second - start.second % 10, microsecond=0)
    end = min(incident.resolved + pad, max(created, incident.resolved))
    return Window(start, max(end, start + timedelta(seconds=10)))


def prefixes(metric: str) -> tuple[str, ...]:
    """Prefixes of the metric names that may be related; none begins with another."""
    head, dot, _ = metric.partition(".")
    own = f"{head}." if dot else metric
    return tuple(sorted({own, *_LISTED}))


def breached_series(incident: Incident, known: Iterable[KnownSeries]) -> KnownSeries | None:
    """The known series whose labels the alert carries; the one that agrees in most where a rule's label hides one."""

    def agreement(series: KnownSeries) -> tuple[int, int]:
        agreeing = sum(1 for key, value in series.labels.items() if incident.labels.get(key) == value)
        return (agreeing - len(series.labels), agreeing)

    return max((series for series in known if series.metric == incident.metric), key=agreement, default=None)


def breach_query(incident: Incident, breached: KnownSeries | None, window: Window) -> Query:
    """Exactly the series of the alert, as far as it is known."""
    labels = breached.labels if breached else {}
    return Query(incident.metric, window, _equal(labels), Aggregation.AVG)


def envelope(query: Query) -> dict[str, Query]:
    """The same series by its least and greatest sample in each bucket, and by its mean."""
    wanted = {"max": Aggregation.MAX, "mean": Aggregation.AVG, "min": Aggregation.MIN}
    return {
        name: Query(query.metric, query.window, query.matchers, aggregation) for name, aggregation in wanted.items()
    }


def enveloped(answers: Mapping[str, Answer]) -> Answer:
    """The answers to an envelope's queries as the lines of one chart, each labelled with what it is."""
    lines = tuple(
        replace(series, labels={"value": name}) for name, answer in answers.items() for series in answer.series[:1]
    )
    return Answer(lines, max((answer.step for answer in answers.values()), default=timedelta(0)))


def candidates(
    incident: Incident, breached: KnownSeries | None, known: Sequence[KnownSeries], window: Window
) -> tuple[Candidate, ...]:
    """What could be shown beside the breach, best first: the metric's other series, near and well-known metrics."""
    source = _source(breached.labels if breached else incident.labels)
    near = [s for s in known if _same_source(s.labels, source) and _overlaps(s, window)]
    counts: dict[str, int] = {}
    for series in near:
        counts[series.metric] = counts.get(series.metric, 0) + 1
    siblings = counts.pop(incident.metric, 0) > 1
    ranked = sorted(counts, key=lambda metric: _rank(metric, counts[metric], incident.metric))
    matchers = _equal(source)
    found = [Candidate(humane(metric), Query(metric, window, matchers, Aggregation.AVG)) for metric in ranked]
    if siblings:
        title = f"{humane(incident.metric)}, all series of the source"
        found.insert(0, Candidate(title, Query(incident.metric, window, matchers, Aggregation.AVG)))
    return tuple(found)


def _rank(metric: str, count: int, breached: str) -> tuple[bool, bool, int, int, bool, str]:
    place = _WELL_KNOWN.index(metric) if metric in _WELL_KNOWN else len(_WELL_KNOWN)
    shared = _shared_parts(metric, breached)
    is_near = shared > 1 or (shared == 1 and breached.partition(".")[0] not in {"system", "process"})
    return (metric.endswith(_DULL), not is_near, place, -shared, count > _CROWD, metric)


def _shared_parts(metric: str, other: str) -> int:
    count = 0
    for mine, theirs in zip(metric.split("."), other.split("."), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _source(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in _SOURCE_LABELS if key in labels}


def _same_source(labels: Mapping[str, str], source: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in source.items())


def _overlaps(series: KnownSeries, window: Window) -> bool:
    return series.last_time >= window.start and series.first_time < window.end


def _equal(labels: Mapping[str, str]) -> tuple[Matcher, ...]:
    return tuple(Matcher(key, value) for key, value in sorted(labels.items()))
