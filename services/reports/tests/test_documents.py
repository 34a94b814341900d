"""Documents: names of files, and the layout that every format shows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports_service.documents import NONE, Chart, Document, Format, Sample, Series, Table, Window, clean, filename
from reports_service.layout import lay_out

CREATED = datetime(2026, 8, 1, 14, 16, 5, tzinfo=UTC)
WINDOW = Window(CREATED - timedelta(minutes=10), CREATED)


def laid_out(*sections, **fields):
    document = Document(
        **{"report_id": "r1", "kicker": "Report", "title": "T", "created": CREATED, **fields}, sections=sections
    )
    return lay_out(document, [f"chart-{i}" for i in range(len(document.charts))])


def lines(count, *, samples=1):
    values = tuple(Sample(WINDOW.start, 1.0) for _ in range(samples))
    return tuple(Series("m", {"n": str(i)}, "", values) for i in range(count))


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("High CPU on web-1!", "high-cpu-on-web-1-20260801-1416.pdf"),
        ("Zoë: größer", "zoe-groer-20260801-1416.pdf"),
        ("日本語", "report-20260801-1416.pdf"),
        ("../../etc/passwd", "etc-passwd-20260801-1416.pdf"),
        ("x" * 200, f"{'x' * 80}-20260801-1416.pdf"),
    ],
)
def test_a_file_name_is_safe_wherever_it_is_saved(title, name):
    """Lower-case ASCII letters, digits and dashes, whatever the title."""
    assert filename(title, CREATED, Format.PDF) == name


@given(st.text())
def test_no_title_makes_a_path(title):
    """Not one character that a file system gives a meaning to."""
    name = filename(title, CREATED, Format.HTML)

    assert name.removesuffix(".html").replace("-", "").isalnum()
    assert name.isascii()


def test_control_characters_are_left_out():
    """Neither SVG nor PDF can hold them; line breaks stay."""
    assert clean("a\x00b\x1b[31m\nc\td\x7f\ufffe\U0001f600") == "ab[31m\nc\td\U0001f600"


def test_the_time_of_making_is_said_in_utc():
    """With its zone."""
    assert laid_out()["created"] == "2026-08-01 14:16:05 UTC"


def test_a_long_title_is_shortened_over_the_pages():
    """One line at the top of each."""
    layout = laid_out(title="word " * 40)

    assert len(layout["running_title"]) <= 84
    assert layout["running_title"].endswith("…")


def test_numbers_stand_flush_right_and_words_left():
    """A cell without a figure does not turn its column."""
    table = Table("", ("a", "b", "c"), (("1,204", "x", "97.3\u00a0%"), (NONE, "1 y", ""), ("-2.5", "z", "0\u00a0%")))

    assert laid_out(table)["sections"][0]["numeric"] == [True, False, True]


def test_a_wide_column_gets_more_room_within_limits():
    """One novel in a cell does not starve the others."""
    table = Table("", ("id", "text"), tuple((str(i), "word " * 100) for i in range(10)))

    assert laid_out(table)["sections"][0]["weights"] == [4, 34]


def test_a_chart_says_its_extent_and_what_it_leaves_out():
    """What is not drawn is at least counted."""
    zero = tuple(replace(series, samples=(Sample(WINDOW.start, 0.0),)) for series in lines(3))
    chart = Chart("C", "m", (*lines(20), *lines(2, samples=0), *zero), WINDOW, timedelta(seconds=10), omitted=30)

    note = laid_out(chart)["sections"][0]["note"].replace("\u00a0", " ")
    assert note == (
        "10 min from 2026-08-01 14:06:05 UTC, one value per 10 s · "
        "12 of 50 series, those with the highest peaks, 3 more zero throughout, 2 more without a sample"
    )


def test_a_chart_is_described_in_words():
    """For who cannot see it."""
    described = laid_out(Chart("C", "m", lines(2), WINDOW))["sections"][0]["description"]

    assert described == "Line chart of m from 2026-08-01 14:06:05 UTC to 2026-08-01 14:16:05 UTC: 2 lines"


def test_an_empty_label_value_is_shown():
    """It would look like a mistake of the report."""
    chart = Chart("C", "m", (Series("m", {"status": ""}, "", (Sample(WINDOW.start, 1.0),)),), WINDOW)

    assert laid_out(chart)["sections"][0]["legend"][0]["labels"] == [["status", "(empty)"]]
