"""RenderReportRequest: what is taken, and everything that is wrong with one at once."""

from datetime import UTC, datetime, timedelta

import pytest
from chassis.errors import InvalidArgument, NotFound
from reports_service.documents import Format, Table, Text, Window
from reports_service.queries import Aggregation, Matcher
from reports_service.requests import ChartSpec, paragraphs, parse
from waybill.reports.v1 import reports_pb2

START = datetime(2026, 8, 1, 14, tzinfo=UTC)


def a_request(**fields):
    request = reports_pb2.RenderReportRequest(template_id="standard", title="Capacity")
    request.start_time.FromDatetime(START)
    request.end_time.FromDatetime(START + timedelta(hours=1))
    request.sections.add().chart.metric = "system.cpu.utilization"
    request.MergeFrom(reports_pb2.RenderReportRequest(**fields))
    return request


def violations(request):
    with pytest.raises(InvalidArgument) as caught:
        parse(request)
    return {violation.field: violation.description for violation in caught.value.violations}


def test_a_chart_becomes_a_query_over_the_window():
    """Metric, matchers, aggregation, threshold and axis title arrive as they were sent."""
    request = a_request()
    chart = request.sections[0].chart
    chart.title, chart.aggregation, chart.threshold, chart.axis_title = "CPU", 3, 0.8, "Busy"
    chart.matchers.add(label="state", operator=3, value="user|system")

    (section,) = parse(request).sections

    assert isinstance(section, ChartSpec)
    assert (section.title, section.threshold, section.axis_title) == ("CPU", 0.8, "Busy")
    assert section.query.window == Window(START, START + timedelta(hours=1))
    assert section.query.aggregation is Aggregation.MAX
    assert section.query.matchers == (Matcher("state", "user|system", 3),)


def test_what_a_request_leaves_out_has_its_default():
    """PDF, no threshold, and the metric as the chart's title."""
    spec = parse(a_request())

    assert spec.format is Format.PDF
    assert spec.sections[0].title == "system.cpu.utilization"
    assert spec.sections[0].threshold is None


def test_facts_come_in_the_order_of_their_keys():
    """A map has no order of its own."""
    assert parse(a_request(facts={"b": "2", "a": "1"})).facts == (("a", "1"), ("b", "2"))


def test_a_table_keeps_what_its_cells_say():
    """Numbers lose no digit, gain no separator, and every JSON scalar has words."""
    request = a_request()
    del request.sections[:]
    table = request.sections.add().table
    table.columns.extend(["year", "price", "open", "note", "nothing"])
    table.rows.add().extend([2026, 1234.56789, True, "x", None])

    spec = parse(request)

    assert spec.sections == (Table("", tuple(table.columns), (("2026", "1234.56789", "yes", "x", ""),)),)


def test_a_text_is_split_where_a_blank_line_stands():
    """Line breaks inside a paragraph stay."""
    assert paragraphs("one\ntwo\r\n\r\nthree\n \n\n four \n") == ("one\ntwo", "three", "four")


def test_a_text_needs_no_window():
    """Only charts have a time axis."""
    request = reports_pb2.RenderReportRequest(template_id="standard", title="Note")
    request.sections.add().text.text = "hello"

    spec = parse(request)

    assert spec.window is None
    assert spec.sections == (Text("", ("hello",)),)


def test_every_violation_of_an_empty_request_is_told_at_once():
    """A client mends a request in one go."""
    found = violations(reports_pb2.RenderReportRequest())

    assert found.keys() == {"template_id", "title", "sections"}


def test_every_violation_of_every_section_is_told_with_its_path():
    """Paths lead to the field, however deep."""
    request = a_request(title="x" * 201, subtitle="y" * 501, format=9)
    request.ClearField("start_time")
    chart = request.sections[0].chart
    chart.metric, chart.threshold, chart.aggregation = "not a metric", float("nan"), 99
    chart.matchers.add(label="", operator=77)
    request.sections.add()
    request.sections.add().text.text = "z" * 65_537
    table = request.sections.add().table
    table.columns.extend(["a", "b"])
    table.rows.add().extend([1])
    table.rows.add().extend([[1], float("inf")])

    assert violations(request).keys() == {
        "title",
        "subtitle",
        "format",
        "start_time",
        "sections[0].chart.metric",
        "sections[0].chart.threshold",
        "sections[0].chart.aggregation",
        "sections[0].chart.matchers[0].label",
        "sections[0].chart.matchers[0].operator",
        "sections[1]",
        "sections[2].text.text",
        "sections[3].table.rows[0]",
        "sections[3].table.rows[1].values[0]",
        "sections[3].table.rows[1].values[1]",
    }


@pytest.mark.parametrize(
    ("hours", "told"), [(0, "is not after start_time"), (-1, "is not after start_time"), (366 * 24 + 1, "366 days")]
)
def test_a_window_ends_after_its_start_and_within_a_year(hours, told):
    """Contradictory times are named where they can be mended."""
    request = a_request()
    request.end_time.FromDatetime(START + timedelta(hours=hours))

    assert told in violations(request)["end_time"]


def test_a_time_that_no_calendar_has_is_refused():
    """A Timestamp may carry any number."""
    request = a_request()
    request.start_time.seconds = 1 << 60

    assert violations(request) == {"start_time": "is not a valid time"}


@pytest.mark.parametrize(
    ("field", "count", "path"),
    [("columns", 13, "sections[0].table.columns"), ("rows", 1_001, "sections[0].table.rows")],
)
def test_a_table_has_limits(field, count, path):
    """Twelve columns, a thousand rows."""
    request = a_request()
    table = request.sections[0].table
    table.columns.extend(["c"] * (count if field == "columns" else 1))
    for _ in range(count if field == "rows" else 0):
        table.rows.add().extend(["v"])

    assert violations(request).keys() == {path}


def test_more_than_fifty_sections_are_too_many():
    """The limit is named."""
    request = a_request()
    for _ in range(50):
        request.sections.add().text.text = "t"

    assert "51" in violations(request)["sections"]


def test_an_unknown_template_does_not_exist():
    """It is looked for only in a request that is valid otherwise."""
    with pytest.raises(NotFound) as caught:
        parse(a_request(template_id="poster"))

    assert caught.value.reason == "TEMPLATE_NOT_FOUND"
    assert caught.value.metadata == {"template_id": "poster"}


def test_aggregations_bear_the_numbers_of_the_contract():
    """Ours stand for the contract's: neither may move alone."""
    contract = reports_pb2.ChartSection.DESCRIPTOR.fields_by_name["aggregation"].enum_type

    assert {f"TIME_AGGREGATION_{a.name}": a.value for a in Aggregation} == {v.name: v.number for v in contract.values}
