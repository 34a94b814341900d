"""What a report asks of the metrics service, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from reports_service.documents import Series, Window


class Aggregation(IntEnum):
    """How the samples of a bucket become one value; the numbers are those of the metrics contract."""

    UNSPECIFIED = 0
    AVG = 1
    MIN = 2
    MAX = 3
    SUM = 4
    COUNT = 5
    LAST = 6


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; `operator` is a number of the metrics contract, 0 for equal."""

    label: str
    value: str
    operator: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """The series of one metric over a window."""

    metric: str
    window: Window
    matchers: tuple[Matcher, ...] = ()
    aggregation: Aggregation = Aggregation.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Answer:
    """The series that match, and the width of their buckets; zero when nothing is known of it."""

    series: tuple[Series, ...]
    step: timedelta = timedelta(0)
    # How many more series match.
    omitted: int = 0

    @property
    def has_samples(self) -> bool:
        return any(series.samples for series in self.series)


@dataclass(frozen=True, slots=True)
class KnownSeries:
    """A series that the metrics service has seen."""

    metric: str
    labels: Mapping[str, str]
    unit: str
    first_time: datetime
    last_time: datetime
