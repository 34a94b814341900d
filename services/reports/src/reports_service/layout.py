"""A document as the plain data that a template sets: every text still text, every number already words.

One layout serves all formats, so that a PDF and an HTML page say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports_service.charts import nothing
from reports_service.documents import NONE, Chart, Document, Section, Table, Text, clean, utc
from reports_service.legends import MAX_LINES, drawn, legend, shared_labels
from reports_service.themes import PAPER, Theme
from reports_service.units import NBSP, duration

LEGEND_COLUMNS = ("min", "mean", "max", "last")

_MAX_RUNNING = 84
_NUMERIC_SHARE = 0.8
_MIN_WEIGHT, _MAX_WEIGHT = 4, 34


def lay_out(document: Document, pictures: Sequence[str], theme: Theme = PAPER) -> dict[str, Any]:
    """What the templates read. `pictures` has one per chart, in their order: what the template puts in its place."""
    left = iter(pictures)
    return {
        "report_id": document.report_id,
        "kicker": clean(document.kicker),
        "title": clean(document.title),
        "running_title": clean(_shortened(document.title)),
        "subtitle": clean(document.subtitle),
        "status": _status(document),
        "headlines": _pairs(document.headlines),
        "facts": _pairs(document.facts),
        "sections": [_section(section, left, theme) for section in document.sections],
        "created": utc(document.created),
    }


def _shortened(title: str) -> str:
    return title if len(title) <= _MAX_RUNNING else f"{title[: _MAX_RUNNING - 1].rstrip()}…"


def _pairs(items: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"label": clean(label), "value": clean(value)} for label, value in items]


def _status(document: Document) -> Mapping[str, str] | None:
    if document.status is None:
        return None
    status = document.status
    return {"tone": status.tone.value, "label": clean(status.label), "text": clean(status.text)}


def _section(section: Section, pictures: Any, theme: Theme) -> dict[str, Any]:
    match section:
        case Chart():
            return _chart(section, next(pictures), theme)
        case Text():
            return {"kind": "text", "title": clean(section.title), "paragraphs": [clean(p) for p in section.paragraphs]}
        case Table():
            return _table(section)


def _chart(chart: Chart, picture: str, theme: Theme) -> dict[str, Any]:
    rows = legend(chart, theme)
    return {
        "kind": "chart",
        "title": clean(chart.title),
        "metric": clean(chart.metric),
        "note": clean(" · ".join(filter(None, (chart.note, _extent(chart), _left_out(chart))))),
        "shared": _labels(shared_labels(chart)),
        "picture": picture,
        "description": clean(description(chart)),
        "columns": list(LEGEND_COLUMNS) if rows else [],
        "legend": [
            {
                "color": row.color,
                "dash": list(row.dash),
                "labels": _labels(row.labels),
                "values": [row.minimum, row.mean, row.maximum, row.last],
            }
            for row in rows
        ],
    }


def _labels(labels: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [[clean(key), clean(value) or "(empty)"] for key, value in labels]


def description(chart: Chart) -> str:
    """The chart in words, for who cannot see it."""
    count = len(drawn(chart))
    what = nothing(chart) if not count else f"{count} line{'s' if count > 1 else ''}"
    return f"Line chart of {chart.metric} from {utc(chart.window.start)} to {utc(chart.window.end)}: {what}"


def _extent(chart: Chart) -> str:
    window = chart.window
    step = f", one value per {duration(chart.step)}" if chart.step else ""
    return f"{duration(window.duration)} from {utc(window.start)}{step}"


def _left_out(chart: Chart) -> str:
    """What has no line, and why."""
    lines = len(drawn(chart))
    empty = sum(1 for series in chart.series if not series.samples)
    zero = sum(1 for series in chart.series if series.samples and not any(series.values))
    zero = zero if zero < len(chart.series) - empty else 0
    many = len(chart.series) - empty - zero + chart.omitted
    parts = [f"{MAX_LINES} of {many} series, those with the highest peaks"] if many > lines else []
    parts += [f"{zero} more zero throughout"] if zero else []
    parts += [f"{empty} more without a sample"] if empty and lines else []
    return ", ".join(parts)


def _table(table: Table) -> dict[str, Any]:
    columns = [[row[i] for row in table.rows] for i in range(len(table.columns))]
    return {
        "kind": "table",
        "title": clean(table.title),
        "columns": [clean(column) for column in table.columns],
        "numeric": [_is_numeric(cells) for cells in columns],
        "weights": [_weight(name, cells) for name, cells in zip(table.columns, columns, strict=True)],
        "rows": [[clean(cell) for cell in row] for row in table.rows],
    }


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column is set flush right: nearly all of its cells that say something begin with a number."""
    full = [cell for cell in cells if cell.strip() not in {"", NONE}]
    numbers = sum(1 for cell in full if _looks_numeric(cell))
    return bool(full) and numbers >= _NUMERIC_SHARE * len(full)


def _looks_numeric(cell: str) -> bool:
    head = cell.strip().partition(NBSP)[0].lstrip("+-").replace(",", "")
    return head.replace(".", "", 1).replace("e-", "", 1).replace("e+", "", 1).isdigit()


def _weight(name: str, cells: Sequence[str]) -> int:
    """How wide a column is beside the others: its 90th percentile of characters, within limits."""
    lengths = sorted(len(cell) for cell in cells) or [0]
    typical = lengths[int(0.9 * (len(lengths) - 1))]
    return max(_MIN_WEIGHT, min(_MAX_WEIGHT, max(typical, len(name))))
