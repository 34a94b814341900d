from datetime import timedelta

from dashboard_service import waterfall
from hypothesis import given
from hypothesis import strategies as st
from waybill.traces.v1 import traces_pb2


def a_span(span_id, start_ms, end_ms, *, parent="", **given):
    span = traces_pb2.Span(span_id=span_id, parent_span_id=parent, name=given.pop("name", span_id), **given)
    span.start_time.FromMilliseconds(start_ms)
    span.end_time.FromMilliseconds(end_ms)
    return span


def test_spans_are_drawn_under_their_parents_in_the_order_of_their_begin():
    """Depth first, siblings by start time, whatever the order of arrival."""
    spans = [
        a_span("late", 60, 90, parent="root"),
        a_span("leaf", 20, 30, parent="early"),
        a_span("root", 0, 100),
        a_span("early", 10, 50, parent="root"),
    ]

    rows = waterfall.build(spans).rows

    assert [(row.name, row.depth) for row in rows] == [("root", 0), ("early", 1), ("leaf", 2), ("late", 1)]


def test_a_bar_stands_where_its_span_does():
    """Begin and end are percent of the trace's length, its ticks are a scale of it."""
    drawn = waterfall.build([a_span("root", 1_000, 3_000), a_span("half", 2_000, 2_500, parent="root")])

    assert (drawn.rows[1].left, drawn.rows[1].right) == (50.0, 75.0)
    assert drawn.rows[1].duration == timedelta(milliseconds=500)
    assert [at for _, at in drawn.ticks] == [timedelta(milliseconds=500 * each) for each in range(5)]


def test_a_span_whose_parent_is_missing_is_a_marked_root():
    """Spans of a parent that has not arrived are shown, and say so."""
    rows = waterfall.build([a_span("orphan", 0, 10, parent="gone"), a_span("root", 0, 10)]).rows

    assert {row.name: (row.depth, row.orphan) for row in rows} == {"orphan": (0, True), "root": (0, False)}


def test_a_cycle_is_shown_and_does_not_hang():
    """Spans that name each other as parents, which no correct sender makes, are all still there."""
    rows = waterfall.build(
        [a_span("a", 0, 1, parent="b"), a_span("b", 0, 1, parent="a"), a_span("c", 0, 1, parent="c")]
    )

    assert sorted(row.name for row in rows.rows) == ["a", "b", "c"]


def test_errors_links_and_kinds_are_kept():
    """What an operator looks for is on the row."""
    link = traces_pb2.SpanLink(trace_id="a" * 32, span_id="b" * 16)
    span = a_span(
        "s", 0, 5, kind=traces_pb2.SPAN_KIND_CONSUMER, service="notify", error=True, error_message="no", links=[link]
    )

    drawn = waterfall.build([span])

    assert (drawn.errors, drawn.services) == (1, (("notify", 0),))
    row = drawn.rows[0]
    assert (row.kind, row.error_message, row.links) == ("consumer", "no", (("a" * 32, "b" * 16),))


def test_a_trace_of_one_instant_is_drawn():
    """A length of zero divides nothing by zero."""
    drawn = waterfall.build([a_span("only", 5, 5)])

    assert (drawn.rows[0].left, drawn.length) == (0.0, timedelta())


def test_nothing_is_no_trace():
    """Without a span there is nothing to draw."""
    assert waterfall.build([]) is None


def test_very_large_traces_are_cut_and_say_so():
    """A page draws a bounded number of rows and tells how many it leaves out."""
    drawn = waterfall.build([a_span(f"{number:016x}", number, number + 1) for number in range(waterfall.MAX_ROWS + 7)])

    assert (len(drawn.rows), drawn.hidden) == (waterfall.MAX_ROWS, 7)


def test_a_long_wait_is_folded_so_that_the_bursts_can_be_read():
    """Two bursts of 100 ms, ten minutes apart, stand side by side; what lies between is a short, labelled stretch."""
    drawn = waterfall.build([a_span("first", 0, 100), a_span("second", 600_000, 600_100)])

    (fold,) = drawn.folds
    assert fold.length == timedelta(milliseconds=599_900)
    first, second = drawn.rows
    assert (first.left, first.right) == (0.0, fold.left)
    assert (second.left, second.right) == (fold.right, 100.0)
    assert round(first.right - first.left, 1) == round(second.right - second.left, 1) == 45.5
    assert drawn.length == timedelta(milliseconds=600_100)


def test_a_short_wait_is_drawn_as_long_as_it_was():
    """A pause that takes little room keeps its place on a linear scale."""
    drawn = waterfall.build([a_span("first", 0, 40), a_span("second", 50, 100)])

    assert drawn.folds == []
    assert [(row.left, row.right) for row in drawn.rows] == [(0.0, 40.0), (50.0, 100.0)]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**4)), min_size=1, max_size=30))
def test_folding_keeps_the_order_and_stays_on_the_drawing(spans):
    """What begins or ends earlier is never drawn further right, and nothing leaves the drawing."""
    built = [a_span(f"{number:016x}", begin, begin + length) for number, (begin, length) in enumerate(spans)]
    drawn = waterfall.build(built)

    assert all(0 <= row.left <= row.right <= 100 for row in drawn.rows)
    for one in drawn.rows:
        for other in drawn.rows:
            assert one.start >= other.start or one.left <= other.left
    assert [at for _, at in drawn.ticks] == sorted(at for _, at in drawn.ticks)
