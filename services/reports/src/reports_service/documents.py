"""What a report consists of: plain values, independent of where they come from and of the format they become."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

# Controls, surrogates, and the two noncharacters that https://www.w3.org/TR/xml/#charsets leaves out.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

# Stands in a cell that has no figure: an en dash.
NONE = "\u2013"


class Format(Enum):
    """What a document can become."""

    PDF = ("application/pdf", "pdf")
    HTML = ("text/html", "html")

    def __init__(self, media_type: str, extension: str) -> None:
        self.media_type = media_type
        self.extension = extension


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time: start inclusive, end exclusive, both aware."""

    start: datetime
    end: datetime

    @property
    def duration(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a series; `time` is the begin of its bucket."""

    time: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one metric with one set of labels, by time. `unit` is UCUM, empty when unknown."""

    metric: str
    labels: Mapping[str, str]
    unit: str
    samples: tuple[Sample, ...]

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(sample.value for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one window, with what is to be seen in them."""

    title: str
    metric: str
    series: tuple[Series, ...]
    window: Window
    # Width of a bucket; a wider hole is drawn as a hole. Zero: unknown, nothing is a hole.
    step: timedelta = timedelta(0)
    threshold: float | None = None
    axis_title: str = ""
    # Shaded.
    incident: Window | None = None
    # Drawn as an upright rule.
    fired: datetime | None = None
    note: str = ""
    # How many more series match than are here.
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs of plain text."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells that are ready to show; every row has a cell per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Section = Chart | Text | Table


class Tone(Enum):
    """How a status is meant; decides its colour."""

    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Status:
    """The band under the title."""

    tone: Tone
    label: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report, ready to be rendered."""

    report_id: str
    kicker: str
    title: str
    created: datetime
    subtitle: str = ""
    status: Status | None = None
    # Shown large, at most four.
    headlines: tuple[tuple[str, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    sections: tuple[Section, ...] = field(default=())

    @property
    def charts(self) -> tuple[Chart, ...]:
        return tuple(section for section in self.sections if isinstance(section, Chart))


def clean(text: str) -> str:
    """The text without control characters and what XML 1.0 does not allow; line breaks and tabs stay.

    vl-convert ends the whole process over such a character.
    """
    return _UNPRINTABLE.sub("", text)


def filename(title: str, created: datetime, form: Format) -> str:
    """`high-cpu-on-web-1-20260801-1416.pdf`: lower-case ASCII, whatever the title is."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:80].strip("-") or "report"
    return f"{slug}-{created.astimezone(UTC):%Y%m%d-%H%M}.{form.extension}"


def utc(moment: datetime, *, seconds: bool = True) -> str:
    """`2026-08-01 14:16:05 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC")
