"""One value of one series, and what makes a sample unacceptable or late."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from metrics_service.instants import duration_us, to_us
from metrics_service.series import SeriesKey, SeriesRecord

MAX_SAMPLES = 10_000
MAX_AHEAD = timedelta(minutes=10)
# A hundred million samples of this size fit into the sum of one bucket.
MAX_MAGNITUDE = 1e300


@dataclass(frozen=True, slots=True)
class Sample:
    """A value at an event time, in microseconds since 1970; `unit` is UCUM, empty when unknown."""

    series: SeriesKey
    time_us: int
    value: float
    unit: str = ""


def time_fault(time_us: int, now: datetime) -> str:
    """Say why a sample may not have this event time; empty when it may."""
    if time_us <= 0:
        return "is not after 1970-01-01T00:00:00Z"
    if time_us > to_us(now + MAX_AHEAD):
        return f"is more than {MAX_AHEAD // timedelta(minutes=1)} minutes ahead of the service's clock"
    return ""


def value_fault(value: float) -> str:
    """Say why a sample may not have this value; empty when it may."""
    if not math.isfinite(value):
        return f"is {value}; expected a finite number"
    if abs(value) > MAX_MAGNITUDE:
        return f"is {value}; expected at most {MAX_MAGNITUDE:g} in magnitude"
    return ""


def split_late(samples: Iterable[Sample], accepted: datetime, allowed_lateness: timedelta) -> tuple[list[Sample], int]:
    """The samples that lie no further back than allowed, and the number of the others.

    Lateness counts from the instant at which the batch was accepted, not from the attempt that
    applies it: a batch that waits in the queue, or is retried, loses nothing.
    """
    oldest_us = to_us(accepted) - duration_us(allowed_lateness)
    everything = list(samples)
    on_time = [sample for sample in everything if sample.time_us >= oldest_us]
    return on_time, len(everything) - len(on_time)


def touched(samples: Iterable[Sample], traceparent: str) -> list[SeriesRecord]:
    """The series of a batch, each as the batch alone tells of it."""
    records: dict[bytes, SeriesRecord] = {}
    for sample in samples:
        known = records.get(sample.series.fingerprint)
        time_us, value = sample.time_us, sample.value
        if known is None:
            record = SeriesRecord(sample.series, sample.unit, time_us, time_us, value, traceparent)
        else:
            last_time_us, last_value = max((known.last_time_us, known.last_value), (time_us, value))
            first_time_us = min(known.first_time_us, time_us)
            unit = sample.unit or known.unit
            record = SeriesRecord(known.key, unit, first_time_us, last_time_us, last_value, traceparent)
        records[sample.series.fingerprint] = record
    return list(records.values())
