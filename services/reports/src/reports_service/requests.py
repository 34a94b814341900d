"""RenderReportRequest as values, with everything that is wrong with one found at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.errors import NotFound, Violations
from waybill.reports.v1 import reports_pb2

from reports_service.documents import Format, Table, Text, Window
from reports_service.queries import Aggregation, Matcher, Query

TEMPLATES = ("standard", "incident")

_METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:/-]{0,254}")
_FORMATS = {
    reports_pb2.REPORT_FORMAT_UNSPECIFIED: Format.PDF,
    reports_pb2.REPORT_FORMAT_PDF: Format.PDF,
    reports_pb2.REPORT_FORMAT_HTML: Format.HTML,
}
_MAX_TITLE = 200
_MAX_SUBTITLE = 500
_MAX_TEXT_BYTES = 64 << 10
_MAX_COLUMNS = 12
_MAX_ROWS = 1_000
_MAX_CELL = 1_000
_MAX_SECTIONS = 50
_MAX_FACTS = 32
_MAX_MATCHERS = 32
_MAX_WINDOW = timedelta(days=366)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A chart whose series are still to be fetched."""

    title: str
    query: Query
    threshold: float | None
    axis_title: str


@dataclass(frozen=True, slots=True)
class ReportSpec:
    """A valid RenderReportRequest."""

    template: str
    title: str
    subtitle: str
    format: Format
    window: Window | None
    sections: tuple[ChartSpec | Text | Table, ...]
    facts: tuple[tuple[str, str], ...]


def parse(request: reports_pb2.RenderReportRequest) -> ReportSpec:
    """The request as a spec.

    Raises InvalidArgument with every violation, and NotFound (TEMPLATE_NOT_FOUND) where only the
    template is unknown.
    """
    found = Violations()
    _check_heading(request, found)
    window = _window(request, found)
    named = {f"sections[{i}]": section for i, section in enumerate(request.sections)}
    sections = [_section(section, path, window, found) for path, section in named.items()]
    found.raise_if_any()
    if request.template_id not in TEMPLATES:
        raise NotFound(
            f"template {request.template_id!r} does not exist; there are {' and '.join(TEMPLATES)}",
            reason="TEMPLATE_NOT_FOUND",
            metadata={"template_id": request.template_id},
        )
    return ReportSpec(
        template=request.template_id,
        title=request.title.strip(),
        subtitle=request.subtitle.strip(),
        format=_FORMATS[request.format],
        window=window,
        sections=tuple(section for section in sections if section is not None),
        facts=tuple(sorted(request.facts.items())),
    )


def _check_heading(request: reports_pb2.RenderReportRequest, found: Violations) -> None:
    found.require(request.template_id, "template_id", f"is required; expected {' or '.join(TEMPLATES)}")
    if found.require(request.title.strip(), "title", "is required"):
        _at_most(request.title, _MAX_TITLE, "title", found)
    _at_most(request.subtitle, _MAX_SUBTITLE, "subtitle", found)
    found.require(request.format in _FORMATS, "format", "is not a format; expected PDF or HTML")
    count = len(request.sections)
    found.require(1 <= count <= _MAX_SECTIONS, "sections", f"there are {count}; expected 1 to {_MAX_SECTIONS}")
    found.require(
        len(request.facts) <= _MAX_FACTS, "facts", f"there are {len(request.facts)}; expected at most {_MAX_FACTS}"
    )
    for key, value in sorted(request.facts.items()):
        found.require(key.strip(), "facts", "has an empty key")
        _at_most(key, _MAX_TITLE, f"facts[{key[:50]!r}]", found, "the key")
        _at_most(value, _MAX_CELL, f"facts[{key[:50]!r}]", found)


def _window(request: reports_pb2.RenderReportRequest, found: Violations) -> Window | None:
    needed = any(section.WhichOneof("kind") == "chart" for section in request.sections)
    ends = {name: _time(request, name, found, needed=needed) for name in ("start_time", "end_time")}
    start, end = ends["start_time"], ends["end_time"]
    if start is None or end is None:
        return None
    if not found.require(start < end, "end_time", "is not after start_time"):
        return None
    if not found.require(
        end - start <= _MAX_WINDOW, "end_time", f"is more than {_MAX_WINDOW.days} days after start_time"
    ):
        return None
    return Window(start, end)


def _time(request: Any, name: str, found: Violations, *, needed: bool) -> datetime | None:
    if not request.HasField(name):
        found.require(not needed, name, "is required: there is a chart")
        return None
    try:
        moment: datetime = getattr(request, name).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        found.add(name, "is not a valid time")
        return None
    return moment


def _section(
    section: reports_pb2.Section, path: str, window: Window | None, found: Violations
) -> ChartSpec | Text | Table | None:
    match section.WhichOneof("kind"):
        case "chart":
            return _chart(section.chart, f"{path}.chart", window, found)
        case "text":
            return _text(section.text, f"{path}.text", found)
        case "table":
            return _table(section.table, f"{path}.table", found)
    found.add(path, "is empty; expected a chart, a text or a table")
    return None


def _chart(chart: reports_pb2.ChartSection, path: str, window: Window | None, found: Violations) -> ChartSpec | None:
    _at_most(chart.title, _MAX_TITLE, f"{path}.title", found)
    _at_most(chart.axis_title, _MAX_TITLE, f"{path}.axis_title", found)
    check_metric(chart.metric, f"{path}.metric", found)
    _check_number(chart, "aggregation", f"{path}.aggregation", found)
    count = len(chart.matchers)
    found.require(count <= _MAX_MATCHERS, f"{path}.matchers", f"there are {count}; expected at most {_MAX_MATCHERS}")
    for i, matcher in enumerate(chart.matchers):
        where = f"{path}.matchers[{i}]"
        if found.require(matcher.label, f"{where}.label", "is required"):
            check_metric(matcher.label, f"{where}.label", found)
        _check_number(matcher, "operator", f"{where}.operator", found)
    threshold = chart.threshold if chart.HasField("threshold") else None
    found.require(threshold is None or math.isfinite(threshold), f"{path}.threshold", "is not a finite number")
    if window is None or found.found:
        return None
    matchers = tuple(Matcher(m.label, m.value, m.operator) for m in chart.matchers)
    query = Query(chart.metric, window, matchers, Aggregation(chart.aggregation))
    return ChartSpec(chart.title.strip() or chart.metric, query, threshold, chart.axis_title.strip())


def check_metric(name: str, path: str, found: Violations) -> None:
    """Add a violation unless it is a name as the metrics contract has them."""
    if found.require(name, path, "is required"):
        found.require(
            _METRIC.fullmatch(name),
            path,
            "is no metric or label name; expected [a-zA-Z_][a-zA-Z0-9_.:/-]*, at most 255",
        )


def _check_number(message: Any, name: str, path: str, found: Violations) -> None:
    known = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    found.require(getattr(message, name) in known, path, f"is not one of {', '.join(v.name for v in known.values())}")


def _text(section: reports_pb2.TextSection, path: str, found: Violations) -> Text:
    _at_most(section.title, _MAX_TITLE, f"{path}.title", found)
    size = len(section.text.encode())
    found.require(size <= _MAX_TEXT_BYTES, f"{path}.text", f"has {size} bytes; expected at most {_MAX_TEXT_BYTES}")
    found.require(section.text.strip() or section.title.strip(), path, "has neither a title nor a text")
    return Text(section.title.strip(), paragraphs(section.text))


def paragraphs(text: str) -> tuple[str, ...]:
    """Split where a blank line stands."""
    normal = text.replace("\r\n", "\n").strip()
    return tuple(part.strip() for part in _PARAGRAPH.split(normal)) if normal else ()


def _table(section: reports_pb2.TableSection, path: str, found: Violations) -> Table:
    _at_most(section.title, _MAX_TITLE, f"{path}.title", found)
    width = len(section.columns)
    found.require(1 <= width <= _MAX_COLUMNS, f"{path}.columns", f"there are {width}; expected 1 to {_MAX_COLUMNS}")
    for i, column in enumerate(section.columns):
        _at_most(column, _MAX_TITLE, f"{path}.columns[{i}]", found)
    count = len(section.rows)
    found.require(count <= _MAX_ROWS, f"{path}.rows", f"there are {count}; expected at most {_MAX_ROWS}")
    rows = [_row(row.values, width, f"{path}.rows[{i}]", found) for i, row in enumerate(section.rows[:_MAX_ROWS])]
    return Table(section.title.strip(), tuple(section.columns), tuple(rows))


def _row(values: Iterable[Any], width: int, path: str, found: Violations) -> tuple[str, ...]:
    cells = tuple(_cell(value, f"{path}.values[{i}]", found) for i, value in enumerate(values))
    found.require(len(cells) == width, path, f"has {len(cells)} values; there are {width} columns")
    return cells


def _cell(value: Any, path: str, found: Violations) -> str:
    match value.WhichOneof("kind"):
        case "string_value":
            _at_most(value.string_value, _MAX_CELL, path, found)
            return str(value.string_value)
        case "number_value":
            found.require(math.isfinite(value.number_value), path, "is not a finite number")
            # As given: a year or an id must not get separators, nor a price lose its digits.
            return f"{value.number_value:.15g}"
        case "bool_value":
            return "yes" if value.bool_value else "no"
        case "list_value" | "struct_value":
            found.add(path, "is a list or an object; expected text, a number, a truth value or null")
    return ""


def _at_most(text: str, limit: int, path: str, found: Violations, what: str = "it") -> None:
    found.require(len(text) <= limit, path, f"{what} has {len(text)} characters; expected at most {limit}")
