"""The real Jaeger, and before it the Collector of deploy/otelcol: what is found, what is drawn, what is kept.

Services send to one Jaeger that keeps everything; it hands all spans on to the Collector, which sends what it keeps to
another one.
"""

from pathlib import Path

import pytest
from chassis.testing.harness import quiet_port
from waybill.admin.v1 import admin_pb2

from tests import documents, incident, notices
from tests.jaeger import Jaeger, collector
from tests.receiver import Answer
from tests.stack import Stack, until

ROOT = Path(__file__).resolve().parents[2]
DECISION_SECONDS, PERCENT = 8, 50
#: None of so many, or all of them, would be kept once in half a million runs.
ORDINARY = 20
ARRIVAL_SECONDS = 60.0
#: Of an incident: its alert and its report are mailed, the report asks for series, the mail fetches the report.
CROSSING = {
    ("metrics", "notify"),
    ("metrics", "reports"),
    ("reports", "metrics"),
    ("reports", "notify"),
    ("notify", "reports"),
}

pytestmark = [pytest.mark.needs("jaeger"), pytest.mark.own_outage, pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Services, a Jaeger with all their traces, and one with those that the Collector has kept."""
    listen = f"127.0.0.1:{quiet_port()}"
    folder = tmp_path_factory.mktemp("jaeger")
    with Stack(folder) as stack:
        stack.kept = Jaeger(stack, "kept")
        collector(
            stack,
            "collector",
            ROOT / "deploy/otelcol/tail-sampling.yaml",
            COLLECTOR_LISTEN=listen,
            COLLECTOR_JAEGER=stack.kept.endpoint,
            COLLECTOR_DECISION_WAIT=f"{DECISION_SECONDS}s",
            COLLECTOR_PERCENT=str(PERCENT),
        )
        stack.jaeger = Jaeger(stack, "everything", also_to=listen)
        stack._given["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{stack.jaeger.endpoint}"
        stack.start()
        yield stack


def arrived(jaeger, trace_id, holds=bool):
    """The spans of the trace, once they are as they should be: Jaeger tells nobody when they have come."""
    what = f"trace {trace_id}"
    return until(lambda: (spans := jaeger.spans(trace_id)) and holds(spans) and spans, what, timeout=ARRIVAL_SECONDS)


def settled(name):
    """Whether the trace says how this operation ended."""
    final = {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}

    def holds(spans):
        ends = [span for span in spans if span.name.startswith("settle ") and span.tags["waybill.operation"] == name]
        return any(span.tags["waybill.state"] in final for span in ends)

    return holds


def crossing(spans):
    """From which service to which the trace goes, parent to child."""
    known = {span.span_id: span.service for span in spans}
    hops = {(known[span.parent_id], span.service) for span in spans if span.parent_id in known}
    return {(caller, called) for caller, called in hops if caller != called}


def rendered(stack):
    """An ordinary report that has ended: its name and trace id."""
    operation, kept = stack.finished(stack.reports().RenderReport(documents.of_text()))
    return operation.name, kept.trace_id


def failed(stack):
    """A report that has failed: its name and trace id."""
    operation, kept = stack.finished(stack.reports().RenderReport(documents.with_a_chart("no.such.metric")))
    assert operation.HasField("error")
    return operation.name, kept.trace_id


def test_an_operation_is_found_by_its_name_and_by_its_trace(traced):
    """The search by the tag `waybill.operation` finds the one trace that the operation's metadata names."""
    name, trace_id = rendered(traced)

    arrived(traced.jaeger, trace_id, settled(name))

    assert traced.jaeger.found("reports", **{"waybill.operation": name}) == {trace_id}


def test_the_incident_is_one_trace_and_the_graph_has_its_edges(traced):
    """From the alert to the mailed report; services call each other as docs/telemetry.md says, and no others do."""
    told = incident.run(traced)
    incident.unsubscribe(traced, told.alert.rule_id)
    delivered = told.deliveries[1].operation

    spans = arrived(
        traced.jaeger, told.trace_id, lambda spans: settled(delivered)(spans) and crossing(spans) >= CROSSING
    )

    assert crossing(spans) == CROSSING
    until(lambda: traced.jaeger.graph() >= CROSSING, "the edges of the service graph")


def test_retries_and_a_dead_letter_are_read_off_a_trace(traced, receiver):
    """Each attempt is a span below `send`, linked to the one before, with its error; the last one is final."""
    notices.ensure_template(traced)
    endpoint = receiver.endpoint().answers(Answer(503), Answer(404))
    _, (delivery,) = notices.send(traced, endpoint.channel)
    _, kept = traced.finished(delivery)

    spans = arrived(traced.jaeger, kept.trace_id, settled(delivery))

    mine = [span for span in spans if span.tags.get("waybill.operation") == delivery]
    attempts = sorted(
        (span for span in mine if span.name.startswith("process ")), key=lambda span: span.tags["waybill.attempt"]
    )
    assert [span.tags["waybill.outcome"] for span in attempts] == ["RETRIED", "FAILED"]
    assert len({span.parent_id for span in attempts}) == 1
    assert (attempts[0].trace_id, attempts[0].span_id) in attempts[1].links
    assert all(span.tags["error"] is True and span.tags["error.type"] for span in attempts)
    letters = traced.dead_letters("notify").ListDeadLetters(admin_pb2.ListDeadLettersRequest()).dead_letters
    assert delivery in {letter.operation for letter in letters}


def test_the_collector_keeps_what_failed_and_a_share_of_the_rest(traced):
    """Every failed trace, whole; of ordinary ones some and not all."""
    first = failed(traced)
    ordinary = [rendered(traced) for _ in range(ORDINARY)]
    # Decided after the others, as it came after them.
    last = failed(traced)

    for name, trace_id in (first, last):
        spans = arrived(traced.kept, trace_id, settled(name))
        assert {span.span_id for span in spans} == {span.span_id for span in traced.jaeger.spans(trace_id)}
    kept = [trace_id for _, trace_id in ordinary if traced.kept.spans(trace_id)]
    assert 0 < len(kept) < ORDINARY
