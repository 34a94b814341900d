"""Charts: lines over time as a Vega-Lite spec, and the spec as SVG.

The legend is not part of the picture: `legend` gives it as rows, so that long labels wrap and
every line says its values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from chassis.errors import PermanentError

from reports_service.documents import Chart, Sample, Series, clean
from reports_service.legends import drawn, scale_of
from reports_service.themes import PAPER, Theme, style_of
from reports_service.units import NBSP, Scale, number

WIDTH = 720
HEIGHT = 218

_VEGA_LITE = "6.4"
# A wider hole than this many buckets is drawn as a hole.
_GAP_STEPS = 2.5
# Up to so many samples, each is drawn as a point as well.
_FEW = 45
_HEADROOM = 0.08
# So many lines may be bold.
_BOLD_LINES = 3
_STROKE, _THIN_STROKE = 2, 1.5
_PERCENT = 100


def vega_lite(chart: Chart, theme: Theme = PAPER) -> dict[str, Any]:
    """The chart as a Vega-Lite spec with its data in it; times in UTC."""
    shown = scale_of(chart)
    lines = drawn(chart)
    layers = [*_incident(chart, theme), *(_lines(chart, shown, theme) if lines else _nothing(chart, theme))]
    layers += [*_threshold(chart, shown, theme), *_fired(chart, theme)]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "height": HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        "encoding": {
            "x": {"field": "t", "type": "temporal", "axis": _time_axis(chart), "scale": _time_scale(chart)},
            "y": {"type": "quantitative", "axis": _value_axis(chart, shown), "scale": _value_scale(chart, shown)},
        },
        "layer": layers,
        "config": _config(theme),
    }


def svg(spec: Mapping[str, Any]) -> str:
    """Draw a spec; nothing is fetched from anywhere."""
    import vl_convert  # noqa: PLC0415 - holds a JavaScript engine: only the process that draws loads it

    try:
        return str(vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=_VEGA_LITE, allowed_base_urls=[]))
    except ValueError as error:
        raise PermanentError(f"the chart cannot be drawn: {error}", reason="RENDERING_FAILED") from error


@cache
def use_fonts(folder: Path) -> None:
    """Let drawings take typefaces from a folder as well, from now on."""
    import vl_convert  # noqa: PLC0415 - as above

    vl_convert.register_font_directory(str(folder))


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def _time_scale(chart: Chart) -> dict[str, Any]:
    # A bucket that the window begins in begins before it.
    firsts = [series.samples[0].time for series in drawn(chart)]
    start = min([chart.window.start, *firsts])
    return {"type": "utc", "domain": [_millis(start), _millis(chart.window.end)], "nice": False}


def _time_axis(chart: Chart) -> dict[str, Any]:
    return {"title": None, "tickCount": 9, "labelExpr": _time_label(chart.window.duration), "labelOverlap": "greedy"}


def _time_label(span: timedelta) -> str:
    midnight = "utchours(datum.value) === 0 && utcminutes(datum.value) === 0"
    if span <= timedelta(minutes=10):
        return "utcFormat(datum.value, '%H:%M:%S')"
    if span <= timedelta(days=4):
        return f"{midnight} ? utcFormat(datum.value, '%b %-d') : utcFormat(datum.value, '%H:%M')"
    return "utcFormat(datum.value, '%b %-d')" if span <= timedelta(days=120) else "utcFormat(datum.value, '%b %Y')"


def _value_axis(chart: Chart, shown: Scale) -> dict[str, Any]:
    named = chart.axis_title or chart.metric
    title = f"{named}, {shown.symbol}" if shown.symbol else named
    return {
        "title": clean(title),
        # Above what is written over the plot.
        "titleY": -10 if chart.fired is None else -24,
        "tickCount": 5,
        "labelExpr": "abs(datum.value) < 10000 ? format(datum.value, ',~r') : format(datum.value, '~s')",
    }


def _value_scale(chart: Chart, shown: Scale) -> dict[str, Any]:
    low, high = bounds(chart, shown)
    return {"domain": [low, high], "nice": 5 if low == 0 or high - low > 1 else False, "zero": False}


def bounds(chart: Chart, shown: Scale) -> tuple[float, float]:
    """What the value axis spans at least: from zero unless the values lie far from it; a percentage ends at 100."""
    values = [value * shown.factor for series in drawn(chart) for value in series.values]
    if chart.threshold is not None:
        values.append(chart.threshold * shown.factor)
    low, high = min(values, default=0.0), max(values, default=1.0)
    from_zero = low >= 0 and (low <= high / 2 or not drawn(chart))
    room = (high - (0.0 if from_zero else low)) * _HEADROOM or abs(high) * _HEADROOM or 1.0
    top = high + room
    if shown.symbol == "%" and high <= _PERCENT:
        top = min(top, _PERCENT)
    return (0.0 if from_zero else low - room, top)


def _lines(chart: Chart, shown: Scale, theme: Theme) -> Iterator[dict[str, Any]]:
    lines = drawn(chart)
    colors, dashes = zip(*(style_of(i, theme) for i in range(len(lines))), strict=True)
    rows = [row for i, series in enumerate(lines) for row in _rows(i, series, chart.step, shown)]
    encoding = {"y": {"field": "v"}, "color": _by_line(colors)}
    width = _STROKE if len(lines) <= _BOLD_LINES else _THIN_STROKE
    yield {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": width, "invalid": "break-paths-show-path-domains"},
        "encoding": {**encoding, "strokeDash": _by_line([list(dash) for dash in dashes])},
    }
    points = [row for row in rows if row["alone"]]
    if points:
        mark = {"type": "point", "filled": True, "size": 22, "opacity": 1}
        yield {"data": {"values": points}, "mark": mark, "encoding": encoding}


def _by_line(looks: Sequence[Any]) -> dict[str, Any]:
    """An encoding that gives each line, known by its number, its own look."""
    scale = {"domain": list(range(len(looks))), "range": list(looks)}
    return {"field": "s", "type": "nominal", "legend": None, "scale": scale}


def _rows(line: int, series: Series, step: timedelta, shown: Scale) -> Iterator[dict[str, Any]]:
    """The samples with a hole (a null) where buckets are missing; samples that no line would show are marked."""
    few = len(series.samples) <= _FEW
    runs = list(_runs(series.samples, step))
    for i, run in enumerate(runs):
        for sample in run:
            value = sample.value * shown.factor
            yield {"t": _millis(sample.time), "v": value, "s": line, "alone": few or len(run) == 1}
        if i < len(runs) - 1:
            yield {"t": _millis(run[-1].time) + 1, "v": None, "s": line, "alone": False}


def _runs(samples: tuple[Sample, ...], step: timedelta) -> Iterator[list[Sample]]:
    run: list[Sample] = []
    for sample in samples:
        if run and step and sample.time - run[-1].time > step * _GAP_STEPS:
            yield run
            run = []
        run.append(sample)
    if run:
        yield run


def _nothing(chart: Chart, theme: Theme) -> Iterator[dict[str, Any]]:
    low, high = bounds(chart, scale_of(chart))
    middle = chart.window.start + chart.window.duration / 2
    yield {
        "data": {"values": [{"t": _millis(middle), "v": (low + high) / 2}]},
        "mark": {"type": "text", "text": nothing(chart), "color": theme.muted, "fontSize": 14, "fontStyle": "italic"},
        "encoding": {"y": {"field": "v"}},
    }


def nothing(chart: Chart) -> str:
    """What a chart without a sample says."""
    start, end = (moment.astimezone(UTC) for moment in (chart.window.start, chart.window.end))
    same_day = start.date() == end.date()
    until = end.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")
    return f"No samples between {start:%Y-%m-%d %H:%M:%S} and {until} UTC"


def _incident(chart: Chart, theme: Theme) -> Iterator[dict[str, Any]]:
    if chart.incident is None:
        return
    ends = {
        "t": _millis(max(chart.incident.start, chart.window.start)),
        "e": _millis(min(chart.incident.end, chart.window.end)),
    }
    yield {
        "data": {"values": [ends]},
        "mark": {"type": "rect", "color": theme.alarm, "opacity": 0.08},
        "encoding": {"x2": {"field": "e"}},
    }


def _threshold(chart: Chart, shown: Scale, theme: Theme) -> Iterator[dict[str, Any]]:
    if chart.threshold is None:
        return
    at = chart.threshold * shown.factor
    text = f"threshold {number(at)}{NBSP if shown.symbol else ''}{shown.symbol}"
    data = {"values": [{"v": at, "t": _millis(chart.window.start)}]}
    yield {
        "data": data,
        "mark": {"type": "rule", "color": theme.alarm, "strokeDash": [6, 4], "strokeWidth": 1.4},
        "encoding": {"x": None, "y": {"field": "v"}},
    }
    yield {
        "data": data,
        "mark": {
            "type": "text",
            "text": clean(text),
            "color": theme.alarm,
            "align": "left",
            "baseline": "bottom",
            "dx": 6,
            "dy": -4,
            "fontWeight": "bold",
        },
        "encoding": {"y": {"field": "v"}},
    }


def _fired(chart: Chart, theme: Theme) -> Iterator[dict[str, Any]]:
    if chart.fired is None or not chart.window.start <= chart.fired <= chart.window.end:
        return
    data = {"values": [{"t": _millis(chart.fired)}]}
    yield {"data": data, "mark": {"type": "rule", "color": theme.alarm, "strokeWidth": 1}, "encoding": {"y": None}}
    yield {
        "data": data,
        "mark": {
            "type": "text",
            "text": "fired",
            "color": theme.alarm,
            "align": "center",
            "baseline": "bottom",
            "dy": -5,
            "fontStyle": "italic",
        },
        "encoding": {"y": {"value": 0}},
    }


def _config(theme: Theme) -> dict[str, Any]:
    return {
        "font": theme.font,
        "background": None,
        "padding": {"left": 2, "right": 10, "top": 4, "bottom": 2},
        "view": {"stroke": None},
        "text": {"font": theme.font, "fontSize": 12},
        "line": {"interpolate": "linear", "strokeJoin": "round", "strokeCap": "butt"},
        "axis": {
            "labelFont": theme.font,
            "labelFontSize": 12,
            "labelColor": theme.muted,
            "labelPadding": 6,
            "titleFont": theme.font,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titleColor": theme.muted,
            "titleLimit": WIDTH - 40,
            "gridColor": theme.grid,
            "domainColor": theme.muted,
            "tickColor": theme.muted,
        },
        "axisX": {"grid": False, "tickSize": 5, "domain": True},
        "axisY": {
            "grid": True,
            "domain": False,
            "ticks": False,
            "minExtent": 40,
            "titleAngle": 0,
            "titleAlign": "left",
            "titleAnchor": "start",
            "titleBaseline": "bottom",
            "titleX": -40,
        },
    }
