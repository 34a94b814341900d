"""What a chart's lines are: which series get one, in which unit, and the legend with their values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reports_service.documents import Chart, Series
from reports_service.themes import PAPER, Theme, style_of
from reports_service.units import Scale, scale

MAX_LINES = 12


@dataclass(frozen=True, slots=True)
class LegendRow:
    """One line: how it is drawn, the labels that tell it from the others, and its values."""

    color: str
    dash: tuple[int, ...]
    labels: tuple[tuple[str, str], ...]
    minimum: str
    mean: str
    maximum: str
    last: str


def drawn(chart: Chart) -> tuple[Series, ...]:
    """The series that get a line, in the order of their legend: highest peaks first, at most 12.

    Those without a sample get none, nor those that are zero throughout where others are not.
    """
    full = [series for series in chart.series if series.samples]
    moving = [series for series in full if any(series.values)]
    ranked = sorted(moving or full, key=lambda series: (-max(series.values), sorted(series.labels.items())))
    return tuple(ranked[:MAX_LINES])


def scale_of(chart: Chart) -> Scale:
    """One scale for the whole chart."""
    unit = next((series.unit for series in chart.series if series.unit), "")
    values = [value for series in chart.series for value in series.values]
    found = scale(unit, max(map(abs, values), default=abs(chart.threshold or 0.0)), chart.metric)
    whole = all((value * found.factor).is_integer() for value in values)
    return replace(found, decimals=min(found.decimals, 1)) if whole else found


def shared_labels(chart: Chart) -> tuple[tuple[str, str], ...]:
    """The labels that every drawn series has with the same value, when there are several; else none."""
    lines = drawn(chart)
    if len(lines) < 2:  # noqa: PLR2004 - shared by several
        return ()
    common = set(lines[0].labels.items())
    for series in lines[1:]:
        common &= set(series.labels.items())
    return tuple(sorted(common))


def legend(chart: Chart, theme: Theme = PAPER) -> tuple[LegendRow, ...]:
    """A row for every line."""
    shown = scale_of(chart)
    common = set(shared_labels(chart))
    return tuple(
        LegendRow(
            *style_of(i, theme),
            labels=tuple(item for item in sorted(series.labels.items()) if item not in common),
            minimum=shown.aligned(min(series.values)),
            mean=shown.aligned(sum(series.values) / len(series.values)),
            maximum=shown.aligned(max(series.values)),
            last=shown.aligned(series.values[-1]),
        )
        for i, series in enumerate(drawn(chart))
    )
