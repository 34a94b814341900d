"""What a series is: a metric and its labels, and the fingerprint that stands for both."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_LABELS = 32
MAX_NAME_LENGTH = 255
MAX_LABEL_VALUE_LENGTH = 1024
NAME_RULE = f"1 to {MAX_NAME_LENGTH} characters: a letter or _, then letters, digits and _ . : / -"

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:/-]*")

Labels = tuple[tuple[str, str], ...]


def is_name(text: str) -> bool:
    """Whether the text may name a metric or a label."""
    return len(text) <= MAX_NAME_LENGTH and _NAME.fullmatch(text) is not None


def label_faults(labels: Mapping[str, str]) -> Iterator[str]:
    """Say everything that is wrong with a set of labels."""
    if len(labels) > MAX_LABELS:
        yield f"has {len(labels)} labels; at most {MAX_LABELS}"
    for key, value in labels.items():
        if not is_name(key):
            yield f"{key[:64]!r} is no label name; expected {NAME_RULE}"
        if len(value) > MAX_LABEL_VALUE_LENGTH:
            yield f"the value of {key[:64]!r} has {len(value)} characters; at most {MAX_LABEL_VALUE_LENGTH}"


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """The identity of a series.

    Labels are sorted by name; a label with an empty value is the same as none, so it is left out.
    """

    metric: str
    labels: Labels
    fingerprint: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(self.metric, self.labels))

    @classmethod
    def of(cls, metric: str, labels: Mapping[str, str]) -> "SeriesKey":
        return cls(metric, sort_labels(labels))


def sort_labels(labels: Mapping[str, str]) -> Labels:
    """Labels in the order that identifies them, without the empty ones."""
    return tuple(sorted((key, value) for key, value in labels.items() if value))


def _fingerprint(metric: str, labels: Labels) -> bytes:
    """16 bytes of SHA-256: two of a billion series coincide with a chance of 1 in 10**21."""
    identity = json.dumps([metric, labels], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(identity.encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """What is kept of a series besides its rollups, as of its sample with the latest event time.

    `traceparent` is that of the attempt that added to it last.
    """

    key: SeriesKey
    unit: str
    first_time_us: int
    last_time_us: int
    last_value: float
    traceparent: str


@dataclass(frozen=True, slots=True)
class SeriesPoints:
    """A series and its values by bucket (start, in seconds since 1970), in order."""

    record: SeriesRecord
    points: list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """The series of a query, by labels; `omitted` says how many more it selects."""

    series: list[SeriesPoints]
    omitted: int
