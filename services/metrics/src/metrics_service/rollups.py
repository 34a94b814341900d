"""Rollups: what is kept of the samples that fall into one bucket of event time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from metrics_service.samples import Sample

_SECOND_US = 1_000_000


class Resolution(IntEnum):
    """Width of the buckets. The numbers are those of the contract's enum."""

    TEN_SECONDS = 1
    ONE_MINUTE = 2
    ONE_HOUR = 3

    @property
    def seconds(self) -> int:
        return _WIDTH_SECONDS[self]

    def bucket(self, time_us: int) -> int:
        """Start of the bucket that holds the instant, in seconds since 1970."""
        width = self.seconds
        return time_us // (width * _SECOND_US) * width


_WIDTH_SECONDS = {Resolution.TEN_SECONDS: 10, Resolution.ONE_MINUTE: 60, Resolution.ONE_HOUR: 3600}


class Aggregation(IntEnum):
    """How the samples of a bucket or a window become one value. Numbered as the contract's enum."""

    AVG = 1
    MIN = 2
    MAX = 3
    SUM = 4
    COUNT = 5
    LAST = 6


class BucketKey(NamedTuple):
    """A bucket of one series; `bucket` is its start in seconds since 1970."""

    fingerprint: bytes
    bucket: int


@dataclass(frozen=True, slots=True)
class Rollup:
    """Samples of one bucket, merged.

    `last` is the value with the latest event time; of two at the same instant, the greater one.
    So merging is commutative and associative (for `total` within the rounding of float addition)
    and the order in which samples arrive does not matter.
    """

    count: int
    total: float
    low: float
    high: float
    last: float
    last_time_us: int

    def merge(self, other: "Rollup") -> "Rollup":
        last_time_us, last = max((self.last_time_us, self.last), (other.last_time_us, other.last))
        return Rollup(
            self.count + other.count,
            self.total + other.total,
            min(self.low, other.low),
            max(self.high, other.high),
            last,
            last_time_us,
        )

    def value(self, aggregation: Aggregation) -> float:
        match aggregation:
            case Aggregation.AVG:
                return self._mean()
            case Aggregation.MIN:
                return self.low
            case Aggregation.MAX:
                return self.high
            case Aggregation.SUM:
                return self.total
            case Aggregation.COUNT:
                return float(self.count)
            case Aggregation.LAST:
                return self.last

    def _mean(self) -> float:
        """The mean lies between low and high, which rounding alone would not promise."""
        return min(max(self.total / self.count, self.low), self.high)


def of_sample(sample: Sample) -> Rollup:
    """The rollup of one sample."""
    value = sample.value
    return Rollup(1, value, value, value, value, sample.time_us)


def roll_up(samples: Iterable[Sample]) -> dict[BucketKey, Rollup]:
    """Rollups of the finest resolution."""
    return _merged(
        (BucketKey(sample.series.fingerprint, Resolution.TEN_SECONDS.bucket(sample.time_us)), of_sample(sample))
        for sample in samples
    )


def coarsen(rollups: Mapping[BucketKey, Rollup], resolution: Resolution) -> dict[BucketKey, Rollup]:
    """The same rollups in the wider buckets of another resolution."""
    width = resolution.seconds
    return _merged((BucketKey(key.fingerprint, key.bucket // width * width), rollup) for key, rollup in rollups.items())


def _merged(rollups: Iterable[tuple[BucketKey, Rollup]]) -> dict[BucketKey, Rollup]:
    merged: dict[BucketKey, Rollup] = {}
    for key, rollup in rollups:
        known = merged.get(key)
        merged[key] = rollup if known is None else known.merge(rollup)
    return merged
