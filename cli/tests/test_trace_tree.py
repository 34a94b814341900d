"""A trace is shown whole: every span under its parent, what is missing said aloud."""

import io
from datetime import timedelta

from rich.console import Console
from waybill.traces.v1 import traces_pb2
from waybill_cli.trace_tree import duration_text, orphans, rendered, what_is_missing


def span(span_id, name, parent="", service="metrics", start_ms=0, lasted_ms=10, **attributes):
    made = traces_pb2.Span(span_id=span_id, parent_span_id=parent, name=name, service=service)
    made.start_time.FromMilliseconds(1_700_000_000_000 + start_ms)
    made.end_time.FromMilliseconds(1_700_000_000_000 + start_ms + lasted_ms)
    made.attributes.update({f"waybill.{key}": str(value) for key, value in attributes.items()})
    return made


OPERATION = "operations/reports/0190"
WHOLE = [
    span("a", "send reports.default", operation=OPERATION),
    span("b", "process reports.default", "a", "reports", 20, attempt=1, operation=OPERATION),
    span("c", "settle reports.default", "b", "reports", 40, 1, operation=OPERATION, state="SUCCEEDED"),
]


def shown(spans):
    out = io.StringIO()
    Console(file=out, width=200).print(rendered(spans))
    return out.getvalue().splitlines()


def test_spans_stand_under_their_parents_by_start():
    """Parent before child, earlier sibling before later one, whatever the order of arrival."""
    spans = [*reversed(WHOLE), span("d", "publish waybill.reports.report.completed", "b", "reports", 30)]

    lines = shown(spans)

    assert [line.lstrip("│├└─ ").split()[1] for line in lines[1:]] == ["send", "process", "publish", "settle"]
    indents = [len(line) - len(line.lstrip("│├└─ ")) for line in lines[1:]]
    assert indents == [4, 8, 12, 12]


def test_a_line_says_service_name_duration_attempt_state_links_and_error():
    """What an operator asks of a span stands on its line."""
    failed = span("b", "process reports.default", "a", "reports", 20, 1_500, attempt=2, state="FAILED")
    failed.links.add(trace_id="0" * 32, span_id="1" * 16)
    failed.error, failed.error_message = True, "no such metric"

    line = shown([WHOLE[0], failed])[2]

    wanted = "reports  process reports.default  1.5 s at +20 ms  attempt 2  FAILED  1 link  no such metric"
    assert line.endswith(wanted)


def test_a_method_is_shown_without_its_package():
    """The package says nothing that the service does not say."""
    assert (
        "reports  ReportsService/RenderReport  10 ms"
        in shown([span("a", "waybill.reports.v1.ReportsService/RenderReport", service="reports")])[1]
    )


def test_an_orphan_stands_at_the_top_and_says_so():
    """A span whose parent never came is not hidden."""
    lines = shown([WHOLE[0], span("x", "settle reports.default", "gone", "reports")])

    assert "1 orphans" in lines[0]
    assert any(line.endswith("ORPHAN of gone") for line in lines)


def test_the_heading_counts_spans_services_and_time():
    """One line says how large the trace is."""
    assert shown(WHOLE)[0] == "3 spans, 2 services (metrics, reports), 41 ms"


def test_a_whole_trace_misses_nothing():
    """A span of each service, no orphan, each sent operation settled."""
    assert what_is_missing(WHOLE, ["metrics", "reports"]) == []
    assert orphans(WHOLE) == []


def test_an_operation_that_waits_for_its_children_has_not_settled():
    """A fan-out's attempt settles as RUNNING; only a final state is an end."""
    waiting = [*WHOLE[:2], span("c", "settle reports.default", "b", operation=OPERATION, state="RUNNING")]

    assert what_is_missing(waiting, []) == [f"{OPERATION} has not settled"]


def test_an_operation_that_is_known_to_belong_to_the_trace_is_waited_for():
    """What has not been exported yet cannot be seen to be missing."""
    assert what_is_missing(WHOLE, [], ["operations/notify/1"]) == ["operations/notify/1 has not settled"]


def test_what_a_trace_misses_is_named():
    """A silent service, an orphan, an operation that has not settled."""
    missing = what_is_missing([WHOLE[0], span("x", "process", "gone")], ["metrics", "notify"])

    assert missing == ["no span of notify", "1 orphans", f"{OPERATION} has not settled"]


def test_a_cycle_of_parents_does_not_hang_the_rendering():
    """Spans that are each other's parents are never reached from the top, and the heading still counts them."""
    assert shown([span("a", "one", "b"), span("b", "two", "a")])[0].startswith("2 spans")


def test_durations_are_told_in_a_unit_that_fits():
    """Three figures at most before the unit."""
    told = [duration_text(timedelta(microseconds=us)) for us in (0, 850, 12_000, 3_400_000, 125_000_000)]

    assert told == ["0 s", "850 µs", "12 ms", "3.4 s", "2 min 5 s"]
