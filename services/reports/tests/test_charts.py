"""Charts: what the Vega-Lite spec says, and that it is drawn as vectors without any access to a network."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from chassis.errors import PermanentError
from hypothesis import given
from hypothesis import strategies as st
from reports_service import charts, legends, themes
from reports_service.documents import Chart, Sample, Series, Window

START = datetime(2026, 8, 1, 14, tzinfo=UTC)
STEP = timedelta(seconds=10)
WINDOW = Window(START, START + timedelta(minutes=30))
MILLIS = round(START.timestamp() * 1_000)


def series(values, labels=None, *, metric="system.cpu.utilization", unit="1"):
    """Values at every tenth second; None leaves the bucket out."""
    samples = tuple(Sample(START + i * STEP, float(v)) for i, v in enumerate(values) if v is not None)
    return Series(metric, labels or {}, unit, samples)


def a_chart(*lines, **fields):
    fields.setdefault("metric", "system.cpu.utilization")
    return Chart(**{"title": "CPU", "series": lines, "window": WINDOW, "step": STEP, **fields})


def layers(spec, kind):
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == kind]


def rows(spec):
    return layers(spec, "line")[0]["data"]["values"]


def test_the_time_axis_spans_the_window_in_utc():
    """A report that is read in another time zone shows the same times."""
    x = charts.vega_lite(a_chart(series([0.1, 0.2])))["encoding"]["x"]

    assert x["type"] == "temporal"
    assert x["scale"] == {"type": "utc", "domain": [MILLIS, MILLIS + 1_800_000], "nice": False}
    assert x["axis"]["tickCount"] <= 10


def test_the_bucket_that_the_window_begins_in_is_shown_whole():
    """The metrics service widens a window to it."""
    window = Window(START + timedelta(seconds=7), START + timedelta(minutes=1))
    spec = charts.vega_lite(a_chart(series([1, 2]), window=window))

    assert spec["encoding"]["x"]["scale"]["domain"] == [MILLIS, MILLIS + 60_000]


@pytest.mark.parametrize(
    ("span", "label"),
    [
        (timedelta(minutes=5), "%H:%M:%S"),
        (timedelta(hours=6), "%H:%M"),
        (timedelta(days=30), "%b %-d"),
        (timedelta(days=300), "%b %Y"),
    ],
)
def test_ticks_say_no_more_than_the_window_needs(span, label):
    """Seconds in minutes, days in months."""
    spec = charts.vega_lite(a_chart(series([1]), window=Window(START, START + span)))

    assert f"'{label}'" in spec["encoding"]["x"]["axis"]["labelExpr"]


def test_values_are_drawn_in_the_unit_that_the_axis_names():
    """A ratio is drawn in per cent, and the axis says so."""
    spec = charts.vega_lite(a_chart(series([0.25, 0.5])))

    assert [row["v"] for row in rows(spec)] == [25.0, 50.0]
    assert spec["encoding"]["y"]["axis"]["title"] == "system.cpu.utilization, %"


def test_an_axis_title_that_is_given_is_used_with_the_unit():
    """The unit is never lost."""
    spec = charts.vega_lite(a_chart(series([0.25]), axis_title="Busy"))

    assert spec["encoding"]["y"]["axis"]["title"] == "Busy, %"


def test_a_threshold_is_a_dashed_rule_with_its_value():
    """In the unit of the axis."""
    spec = charts.vega_lite(a_chart(series([0.25]), threshold=0.8))

    (rule,) = layers(spec, "rule")
    assert rule["data"]["values"][0]["v"] == 80.0
    assert rule["mark"]["strokeDash"]
    assert [layer["mark"]["text"] for layer in layers(spec, "text")] == ["threshold 80\u00a0%"]


def test_the_incident_is_shaded_within_the_window():
    """What lies outside of the chart is not drawn outside of it."""
    incident = Window(START - timedelta(minutes=5), START + timedelta(minutes=10))
    spec = charts.vega_lite(a_chart(series([0.25]), incident=incident))

    (shade,) = layers(spec, "rect")
    assert shade["data"]["values"] == [{"t": MILLIS, "e": MILLIS + 600_000}]
    assert shade["mark"]["opacity"] < 0.2


def test_the_moment_that_it_fired_is_marked():
    """An upright rule; none when it lies outside of the window."""
    inside = charts.vega_lite(a_chart(series([0.25]), fired=START + timedelta(minutes=1)))
    outside = charts.vega_lite(a_chart(series([0.25]), fired=START - timedelta(minutes=1)))

    assert layers(inside, "rule")[0]["data"]["values"] == [{"t": MILLIS + 60_000}]
    assert layers(outside, "rule") == []


def test_a_hole_in_the_samples_is_a_hole_in_the_line():
    """A line over missing buckets would claim what nobody measured."""
    spec = charts.vega_lite(a_chart(series([1, 2, None, None, None, 3, 4])))

    assert [row["v"] for row in rows(spec)] == [100, 200, None, 300, 400]


def test_one_missing_bucket_is_no_hole():
    """Exporters jitter."""
    assert [row["v"] for row in rows(charts.vega_lite(a_chart(series([1, None, 3]))))] == [100, 300]


def test_a_sample_between_two_holes_is_a_point():
    """A line through one sample has no length."""
    values = [1.0] * 50 + [None] * 5 + [2.0] + [None] * 5 + [1.0] * 50
    spec = charts.vega_lite(a_chart(series(values)))

    (points,) = layers(spec, "point")
    assert [row["v"] for row in points["data"]["values"]] == [200.0]


def test_a_chart_without_samples_says_so():
    """It keeps its axes and its threshold."""
    spec = charts.vega_lite(a_chart(threshold=0.8))

    texts = [layer["mark"]["text"] for layer in layers(spec, "text")]
    assert texts[0] == "No samples between 2026-08-01 14:00:00 and 14:30:00 UTC"
    assert layers(spec, "line") == []
    assert "No samples" in charts.svg(spec)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0.2, 0.97], 0, 100),
        ([0.2, 0.4], 0, 43.2),
        ([0.90, 0.94], 89.68, 94.32),
        ([-0.5, 0.5], -58, 58),
        ([0, 0], 0, 1),
    ],
)
def test_the_value_axis_begins_at_zero_unless_that_hides_the_line(values, low, high):
    """And a percentage ends at 100."""
    chart = a_chart(series(values))

    assert charts.bounds(chart, legends.scale_of(chart)) == pytest.approx((low, high))


def test_the_threshold_is_within_the_axis():
    """However far it lies from the values."""
    chart = a_chart(series([0.1, 0.2]), threshold=0.9)

    assert charts.bounds(chart, legends.scale_of(chart))[1] > 90


def test_twelve_lines_are_all_told_apart():
    """By colour and dashes together, none twice."""
    styles = [themes.style_of(i, themes.PAPER) for i in range(12)]

    assert len(set(styles)) == 12


def test_the_palette_is_okabe_and_itos():
    """Distinguishable with every common colour vision; see their paper."""
    assert set(themes.PAPER.lines[:5]) == {"#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"}


def test_the_twelve_highest_of_many_series_are_drawn():
    """More lines than that nobody reads."""
    many = [series([i, i + 1], {"n": f"{i:02}"}) for i in range(30)]

    assert [line.labels["n"] for line in legends.drawn(a_chart(*many))] == [f"{i}" for i in range(29, 17, -1)]


def test_a_legend_says_what_is_not_the_same_for_all_lines():
    """Labels that all lines share stand once, over them."""
    chart = a_chart(
        series([0.1, 0.3], {"host": "a", "state": "user"}), series([0.2, 0.2], {"host": "a", "state": "idle"})
    )

    assert legends.shared_labels(chart) == (("host", "a"),)
    assert [row.labels for row in legends.legend(chart)] == [(("state", "user"),), (("state", "idle"),)]


def test_a_legend_sums_up_each_line():
    """Least, mean, greatest and last value, with as many decimals."""
    (row,) = legends.legend(a_chart(series([0.2, 0.4, 0.3])))

    said = [text.replace("\u00a0", " ") for text in (row.minimum, row.mean, row.maximum, row.last)]
    assert said == ["20.0 %", "30.0 %", "40.0 %", "30.0 %"]


def test_a_series_without_samples_gets_no_line():
    """An empty line in a legend says nothing."""
    chart = a_chart(series([], {"n": "1"}), series([1], {"n": "2"}))

    assert [line.labels["n"] for line in legends.drawn(chart)] == ["2"]


def test_a_series_that_is_zero_throughout_gets_no_line_beside_others():
    """The kernel counts much that never happens."""
    zero, moving = series([0, 0], {"n": "1"}), series([0, 1], {"n": "2"})

    assert legends.drawn(a_chart(zero, moving)) == (moving,)
    assert legends.drawn(a_chart(zero)) == (zero,)


def test_the_drawing_is_well_formed_and_refers_to_nothing_outside():
    """It can be put into any page: no script, no reference, no image."""
    drawing = charts.svg(charts.vega_lite(a_chart(series([0.1, 0.9]), threshold=0.8, axis_title="<&\"' ]]>")))

    root = ET.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"<(script|image|foreignObject|a|use)\b|url\(", drawing)
    assert any("<&\"' ]]>" in "".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))


def test_a_drawing_for_the_screen_takes_its_colours_from_the_page():
    """So that it follows light and dark."""
    drawing = charts.svg(charts.vega_lite(a_chart(series([0.1, 0.9])), themes.SCREEN))

    assert 'stroke="var(--line-0)"' in drawing


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x85", "\ufffe", "\uffff"])
def test_a_character_that_no_drawing_can_hold_is_left_out(character):
    """vl-convert would end the process over it: a unit from an exporter could kill every worker."""
    chart = a_chart(series([1], unit=f"w{character}"), axis_title=f"a{character}b", threshold=1)

    drawing = charts.svg(charts.vega_lite(chart))

    assert ">ab, w</text>" in drawing
    assert ">threshold 1\u00a0w</text>" in drawing


def test_data_is_not_fetched_from_an_address():
    """Were a spec to name one, drawing would fail rather than ask."""
    spec = charts.vega_lite(a_chart(series([0.1])))
    spec["layer"][0]["data"] = {"url": "http://127.0.0.1:9/data.json"}

    with pytest.raises(PermanentError) as caught:
        charts.svg(spec)

    assert caught.value.reason == "RENDERING_FAILED"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=20))
def test_an_axis_holds_every_value(values):
    """Whatever they are, and the axis has a length."""
    chart = a_chart(series(values, unit="{thing}"))
    shown = legends.scale_of(chart)

    low, high = charts.bounds(chart, shown)

    assert low < high
    assert low <= min(values) * shown.factor
    assert max(values) * shown.factor <= high
