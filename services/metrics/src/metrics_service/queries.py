"""Questions about series: label matchers, and the buckets that answer a range."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

import re2  # type: ignore[import-untyped]

from metrics_service.instants import to_us
from metrics_service.rollups import Aggregation, Resolution
from metrics_service.series import SeriesKey

MAX_SERIES = 200
MAX_AUTO_POINTS = 500
MAX_RANGE_POINTS = 10_000
MAX_ANSWER_POINTS = 150_000
MAX_MATCHERS = 32
MAX_PATTERN_LENGTH = 256
_PATTERN_MEMORY_BYTES = 1 << 20

Retention = Mapping[Resolution, timedelta]


class MatchOperator(IntEnum):
    """Numbered as the contract's enum."""

    EQUAL = 1
    NOT_EQUAL = 2
    REGEX = 3
    NOT_REGEX = 4

    @property
    def takes_pattern(self) -> bool:
        return self in {MatchOperator.REGEX, MatchOperator.NOT_REGEX}


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; a label that a series lacks has the empty value."""

    label: str
    operator: MatchOperator
    value: str

    def fault(self) -> str:
        """Say why the value is no pattern; empty when it is one, or need not be."""
        if not self.operator.takes_pattern:
            return ""
        if len(self.value) > MAX_PATTERN_LENGTH:
            return f"has {len(self.value)} characters; a regular expression has at most {MAX_PATTERN_LENGTH}"
        try:
            _compile(self.value)
        except re2.error as error:
            return f"is no RE2 regular expression: {error.args[0].decode(errors='replace')}"
        return ""


class _Condition:
    """A matcher made ready for many series: its pattern is compiled once."""

    __slots__ = ("_expected", "_label", "_pattern", "_wanted")

    def __init__(self, matcher: Matcher) -> None:
        self._label = matcher.label
        self._expected = matcher.value
        self._wanted = matcher.operator in {MatchOperator.EQUAL, MatchOperator.REGEX}
        self._pattern = _compile(matcher.value) if matcher.operator.takes_pattern else None

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self._label, "")
        if self._pattern is None:
            return (value == self._expected) is self._wanted
        return (self._pattern.fullmatch(value) is not None) is self._wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """The series of one metric that satisfy every matcher."""

    metric: str
    matchers: tuple[Matcher, ...] = ()

    def choose(self, series: Iterable[SeriesKey]) -> list[SeriesKey]:
        """Those that are selected, in the given order."""
        conditions = [_Condition(matcher) for matcher in self.matchers]
        return [
            key
            for key in series
            if key.metric == self.metric and all(condition.holds(dict(key.labels)) for condition in conditions)
        ]


def _compile(pattern: str) -> "re2._Regexp":
    """RE2 matches in time linear in the value, whatever the pattern: a client cannot stall the service."""
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(pattern, options)


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """A range [start, end) of one or more series. `resolution` None: the service chooses."""

    selector: Selector
    start: datetime
    end: datetime
    aggregation: Aggregation = Aggregation.AVG
    resolution: Resolution | None = None


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets of one resolution that start in [first, end), in seconds since 1970."""

    resolution: Resolution
    first: int
    end: int

    def __len__(self) -> int:
        return (self.end - self.first) // self.resolution.seconds

    @classmethod
    def over(cls, start: datetime, end: datetime, resolution: Resolution) -> "Buckets":
        """The whole buckets that cover [start, end); the first one may start before it."""
        last = resolution.bucket(to_us(end) - 1)
        return cls(resolution, resolution.bucket(to_us(start)), last + resolution.seconds)


def buckets_for(query: SeriesQuery, now: datetime, retention: Retention) -> Buckets:
    """Buckets of the asked resolution; else of the finest with at most 500 that is still kept at the start."""
    if query.resolution is not None:
        return Buckets.over(query.start, query.end, query.resolution)
    for resolution in Resolution:
        buckets = Buckets.over(query.start, query.end, resolution)
        if len(buckets) <= MAX_AUTO_POINTS and query.start >= now - retention[resolution]:
            return buckets
    return Buckets.over(query.start, query.end, Resolution.ONE_HOUR)
