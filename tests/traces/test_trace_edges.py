"""The table of docs/telemetry.md, on one real run of the incident pipeline and of everything that can go wrong."""

import re
import signal
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from google.longrunning import operations_pb2
from waybill.admin.v1 import admin_pb2
from waybill.operations.v1 import operations_pb2 as ops

from tests import documents, incident, notices, samples
from tests.receiver import Answer
from tests.stack import signal_group

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "telemetry.md").read_text()
ENGINE = ("send ", "process ", "settle ")
SETTLED = "settle "


@pytest.fixture(scope="module")
def whole(running_stack):
    """One incident; its spans, once nothing of it is outstanding."""
    running_stack.make_whole()
    told = incident.run(running_stack)
    yield told, complete(running_stack, told.trace_id, operations=6)
    incident.unsubscribe(running_stack, told.alert.rule_id)


def complete(stack, trace_id, operations):
    """The trace once that many operations have their last `settle` span and no span waits for its parent."""

    def is_whole(spans):
        ended = {
            span.attributes["waybill.operation"]
            for span in spans
            if span.name.startswith(SETTLED) and span.attributes["waybill.state"] in FINAL
        }
        return len(ended) >= operations and not orphans(spans)

    return stack.collector.wait_for_trace(trace_id, is_whole, timeout=40)


FINAL = {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}


def orphans(spans):
    """Spans whose parent is in no export."""
    known = {span.span_id for span in spans}
    return [span for span in spans if span.parent_id and span.parent_id not in known]


def named(spans, name):
    return [span for span in spans if span.name == name]


def only(spans, name):
    (span,) = named(spans, name)
    return span


def parent_of(spans, span):
    return next(each for each in spans if each.span_id == span.parent_id)


def of_operation(spans, name):
    """The spans about one operation, by their first word."""
    found = defaultdict(list)
    for span in spans:
        if span.attributes.get("waybill.operation") == name and span.name.startswith(ENGINE):
            found[span.name.split()[0]].append(span)
    return found


def trace_of(stack, name, operations=1):
    """The complete trace of an operation that has ended."""
    _, kept = stack.finished(name)
    return complete(stack, kept.trace_id, operations)


def test_an_incident_is_one_trace_over_three_services(whole):
    """No orphan, one root (the evaluation that fired), and every service is in it."""
    _, spans = whole

    roots = [span for span in spans if not span.parent_id]

    assert [root.name for root in roots] == ["send metrics.alerts"]
    assert {span.service for span in spans} == {"metrics", "notify", "reports"}
    assert len({span.span_id for span in spans}) == len(spans)


def test_events_carry_the_trace_from_service_to_service(whole):
    """Evaluation > fired > notification > mail; fired > resolved > report > completed > notification > mail."""
    _, spans = whole
    fired = only(spans, f"publish {incident.FIRED}")
    resolved = only(spans, f"publish {incident.RESOLVED}")
    completed = only(spans, f"publish {incident.COMPLETED}")
    report = only(spans, "send reports.default")

    assert parent_of(spans, fired).name == "process metrics.alerts"
    assert parent_of(spans, resolved) == fired
    assert parent_of(spans, report) == resolved
    assert parent_of(spans, completed).name == "process reports.default"
    notifications = named(spans, "send notify.default")
    assert {span.parent_id for span in notifications} == {fired.span_id, completed.span_id}
    for mail in named(spans, "send notify.mail"):
        assert parent_of(spans, mail).name == "process notify.default"
    assert len(named(spans, "send notify.mail")) == 2


def test_an_alert_links_to_the_exports_that_brought_its_samples(stack, whole):
    """The firing and the resolving event link to `process` spans of ingestions, which have traces of their own."""
    _, spans = whole
    elsewhere = {(span.trace_id, span.span_id): span for span in stack.collector.spans}

    for event in (incident.FIRED, incident.RESOLVED):
        linked = [elsewhere[link].name for link in only(spans, f"publish {event}").links if link in elsewhere]
        assert "process metrics.ingest" in linked


def test_work_inside_an_attempt_hangs_below_it(whole):
    """The report's queries of metrics are children of its attempt: CLIENT here, SERVER there."""
    _, spans = whole
    attempt = only(spans, "process reports.default")

    calls = [span for span in spans if span.parent_id == attempt.span_id and span.kind == "CLIENT"]
    queries = [call for call in calls if call.name.startswith("waybill.metrics.v1.MetricsService/")]

    assert len(queries) >= 2
    for query in queries:
        (served,) = [span for span in spans if span.parent_id == query.span_id]
        assert (served.kind, served.service, served.name) == ("SERVER", "metrics", query.name)


def test_an_accepting_rpc_is_the_root_of_its_trace(stack):
    """SERVER > send > process > settle, each of its kind, in the order of time."""
    name = stack.metrics().IngestSamples(samples.batch("edges", 1.0)).name

    spans = trace_of(stack, name)

    server, send, process, settle = (
        only(spans, each)
        for each in (
            "waybill.metrics.v1.MetricsService/IngestSamples",
            "send metrics.ingest",
            "process metrics.ingest",
            "settle metrics.ingest",
        )
    )
    assert [span.kind for span in (server, send, process, settle)] == ["SERVER", "PRODUCER", "CONSUMER", "CLIENT"]
    assert [server.parent_id, send.parent_id, process.parent_id, settle.parent_id] == [
        "",
        server.span_id,
        send.span_id,
        process.span_id,
    ]
    assert server.start_ns <= process.start_ns <= process.end_ns


def test_a_clients_trace_is_continued(stack):
    """The SERVER span is a child of the traceparent that the client sent."""
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    request = samples.batch("edges", 1.0)
    name = stack.metrics().IngestSamples(request, metadata=(("traceparent", traceparent),)).name
    stack.finished(name)

    def settled(spans):
        return any(span.name == "settle metrics.ingest" for span in spans)

    spans = stack.collector.wait_for_trace("4bf92f3577b34da6a3ce929d0e0e4736", settled)

    server = only(spans, "waybill.metrics.v1.MetricsService/IngestSamples")
    assert server.parent_id == "00f067aa0ba902b7"


def test_a_forwarded_call_shows_its_hop(stack):
    """SERVER at the gateway that was called, CLIENT there, SERVER at the owner; then the owner's `send`."""
    name = stack.metrics(through="reports").IngestSamples(samples.batch("edges", 1.0)).name

    spans = trace_of(stack, name)

    hops = named(spans, "waybill.metrics.v1.MetricsService/IngestSamples")
    by_parent = {span.parent_id: span for span in hops}
    chain = [by_parent[""]]
    while chain[-1].span_id in by_parent:
        chain.append(by_parent[chain[-1].span_id])
    assert [(span.kind, span.service) for span in chain] == [
        ("SERVER", "reports"),
        ("CLIENT", "reports"),
        ("SERVER", "metrics"),
    ]
    assert only(spans, "send metrics.ingest").parent_id == chain[-1].span_id


def test_retries_are_siblings_and_link_to_the_attempt_before(stack, receiver):
    """Every `process` is a child of the one `send`; failed attempts say why."""
    notices.ensure_template(stack)
    endpoint = receiver.endpoint().answers(
        Answer(503, {"retry-after": "0"}), Answer(503, {"retry-after": "0"}), Answer()
    )
    _, (delivery,) = notices.send(stack, endpoint.channel)

    spans = of_operation(trace_of(stack, delivery, operations=2), delivery)

    (send,) = spans["send"]
    attempts = sorted(spans["process"], key=lambda span: span.attributes["waybill.attempt"])
    assert [span.parent_id for span in attempts] == [send.span_id] * 3
    assert [span.attributes["waybill.outcome"] for span in attempts] == ["RETRIED", "RETRIED", "SUCCEEDED"]
    assert [bool(span.error) for span in attempts] == [True, True, False]
    assert all(span.attributes["error.type"] for span in attempts[:2])
    assert [[link[1] for link in span.links] for span in attempts] == [[], [attempts[0].span_id], [attempts[1].span_id]]
    assert {span.parent_id for span in spans["settle"]} == {span.span_id for span in attempts}


def test_the_attempt_of_a_killed_worker_is_in_the_trace(stack, receiver):
    """Nobody was left to report it, and it is there: outcome LOST, then the attempt that succeeded."""
    notices.ensure_template(stack)
    endpoint = receiver.endpoint().hold()
    _, (delivery,) = notices.send(stack, endpoint.channel)
    endpoint.wait_for(1)

    stack.process("notify", "worker").kill()
    endpoint.let_go()
    stack.make_whole()
    spans = of_operation(trace_of(stack, delivery, operations=2), delivery)

    attempts = sorted(spans["process"], key=lambda span: span.attributes["waybill.attempt"])
    assert [span.attributes["waybill.outcome"] for span in attempts] == ["LOST", "SUCCEEDED"]
    assert attempts[0].attributes["error.type"] == "WORKER_LOST"
    assert [link[1] for link in attempts[1].links] == [attempts[0].span_id]


def test_an_operation_that_is_cancelled_before_it_runs_has_a_settle_span(stack):
    """Its trace is no dead end: `send`, then a `settle` that says how it ended."""
    options = samples.options(due=timedelta(hours=1))
    accepted = stack.metrics().IngestSamples(samples.batch("edges", 1.0, options=options))
    stack.operations("metrics").CancelOperation(operations_pb2.CancelOperationRequest(name=accepted.name))

    spans = of_operation(trace_of(stack, accepted.name), accepted.name)

    (send,), (settle,) = spans["send"], spans["settle"]
    assert not spans["process"]
    assert (settle.parent_id, settle.attributes["waybill.state"]) == (send.span_id, "CANCELLED")
    assert settle.error


def test_an_expired_operation_has_a_settle_span(stack):
    """EXPIRED without an attempt, while no worker takes it."""
    worker = stack.process("metrics", "worker")
    signal_group(worker, signal.SIGSTOP)
    try:
        options = samples.options(expires=timedelta(seconds=1))
        accepted = stack.metrics().IngestSamples(samples.batch("edges", 1.0, options=options))
        spans = of_operation(trace_of(stack, accepted.name), accepted.name)
    finally:
        signal_group(worker, signal.SIGCONT)

    (settle,) = spans["settle"]
    assert settle.attributes["waybill.state"] == "EXPIRED"
    assert settle.attributes["error.type"] == "EXPIRED"


def test_a_replay_links_to_what_it_replays(stack):
    """The replay's `send` links to the original's; each keeps its own trace."""
    failed = stack.reports().RenderReport(documents.with_a_chart("no.such.metric"))
    original = trace_of(stack, failed.name)
    replay = stack.dead_letters("reports").ReplayDeadLetter(admin_pb2.ReplayDeadLetterRequest(operation=failed.name))

    spans = trace_of(stack, replay.name)

    (send,) = of_operation(spans, replay.name)["send"]
    (first,) = of_operation(original, failed.name)["send"]
    assert (first.trace_id, first.span_id) in send.links
    assert send.trace_id != first.trace_id
    _, kept = stack.get(failed.name)
    assert (kept.state, kept.replayed_by) == (ops.OPERATION_STATE_FAILED, replay.name)


def test_spans_have_the_attributes_that_the_table_lists(stack, whole):
    """Nothing undocumented, on any span of this run; and every documented attribute was seen."""
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", DOCUMENT.split("## Attributes")[1].split("\n## ")[0], re.MULTILINE)
    documented = {name for cell, _ in rows for name in re.findall(r"`([^`]+)`", cell)}
    exact = {name for name in documented if "*" not in name}
    prefixes = tuple(name.split("*")[0] for name in documented if "*" in name)

    seen = {key for span in stack.collector.spans for key in span.attributes}

    assert {key for key in seen if key not in exact and not key.startswith(prefixes)} == set()
    assert exact <= seen


def test_spans_have_the_kinds_that_the_table_lists(stack, whole):
    """SERVER and CLIENT for RPCs, PRODUCER for send and publish, CONSUMER for process, CLIENT for settle."""
    kinds = {"send": {"PRODUCER"}, "process": {"CONSUMER"}, "settle": {"CLIENT"}, "publish": {"PRODUCER"}}

    for span in stack.collector.spans:
        assert span.kind in kinds.get(span.name.split()[0], {"SERVER", "CLIENT"}), span
