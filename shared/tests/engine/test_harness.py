"""The harness itself: what it promises to the tests that stand on it."""

import os
import signal

import grpc
import pytest
from chassis.otlp_wire import span_bytes
from chassis.span_sink import OtelSettings, SpanSink
from chassis.telemetry import PRODUCER, Span, SpanContext
from chassis.testing.collector import SpanCollector
from grpc_health.v1 import health_pb2
from waybill.operations.v1 import operations_pb2 as ops


def a_span(context=None, *, name="send q", error=""):
    return Span(name, PRODUCER, context or SpanContext.new_root(), b"", 1_000, 2_000, {"a": 1, "b": "x"}, error)


@pytest.fixture
def collector():
    with SpanCollector() as started:
        yield started


@pytest.fixture
def sink(collector):
    return SpanSink(OtelSettings(exporter_otlp_endpoint=collector.endpoint), "depot")


def test_exported_spans_arrive_as_values(collector, sink):
    """Service, name, kind, ids, times, attributes and error are what was sent."""
    span = a_span(error="broken")
    sink.send([span_bytes(span)])

    (arrived,) = collector.wait_for(lambda spans: len(spans) == 1)

    assert (arrived.service, arrived.name, arrived.kind, arrived.error) == ("depot", "send q", "PRODUCER", "broken")
    assert (arrived.trace_id, arrived.span_id) == (span.context.trace_id.hex(), span.context.span_id.hex())
    assert (arrived.start_ns, arrived.end_ns, arrived.attributes) == (1_000_000, 2_000_000, {"a": 1, "b": "x"})


def test_a_span_that_is_exported_twice_is_one_span(collector, sink):
    """Exporting is at least once; `spans` and `trace` have each span once, `received` has them all."""
    span = a_span()
    sink.send([span_bytes(span)])
    sink.send([span_bytes(span)])

    assert len(collector.trace(span.context.trace_id.hex())) == 1
    assert len(collector.received) == 2


def test_a_wait_for_spans_that_never_come_lists_those_that_did(collector, sink):
    """The message is the outline of what arrived."""
    sink.send([span_bytes(a_span(name="send here"))])

    with pytest.raises(TimeoutError, match="send here"):
        collector.wait_for(lambda spans: len(spans) == 2, timeout=0.05)


def test_a_refusing_collector_fails_the_export(collector, sink):
    """As an endpoint does that is overloaded; it takes spans again when told."""
    collector.refuse(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(grpc.RpcError):
        sink.send([span_bytes(a_span())])

    collector.refuse(None)
    sink.send([span_bytes(a_span())])
    assert len(collector.spans) == 1


def test_a_service_runs_and_its_operation_is_followed_to_its_end(stack, submit):
    """Gateway, worker, Valkey and collector belong together; the trace of the operation arrives."""
    _, metadata = stack.finished(submit("sample.echo", {"word": "hello"}))

    assert metadata.state == ops.OPERATION_STATE_SUCCEEDED
    names = {"send sample.default", "process sample.default", "settle sample.default"}
    stack.collector.wait_for_trace(metadata.trace_id, lambda spans: names <= {span.name for span in spans})


def test_a_killed_process_starts_again(stack, submit):
    """Kill is SIGKILL; the next life is another process of the same address and state."""
    worker = stack.process("sample", "worker")
    before = worker.pid
    worker.kill()
    assert worker.wait() == -signal.SIGKILL

    worker.start()

    assert worker.pid != before
    assert stack.finished(submit("sample.echo"))[1].worker.endswith(f":{worker.pid}")


def test_a_drained_gateway_says_so_and_serves_again(stack, submit):
    """Stop is SIGTERM; the address stays over a restart."""
    gateway = stack.process("sample", "gateway")

    assert gateway.stop() == 0
    gateway.wait_for_event("gateway.drained")
    gateway.start()
    stack.wait_for_health("sample", health_pb2.HealthCheckResponse.SERVING)

    assert stack.finished(submit("sample.echo"))[1].state == ops.OPERATION_STATE_SUCCEEDED


def test_a_process_that_ends_instead_of_saying_something_is_told_of_at_once(stack):
    """The wait does not last until its timeout, and the message has the process's last words."""
    program = stack.program("a program", ["/bin/sh", "-c", "echo last words; exit 3"], ready_event="never.said")

    with pytest.raises(ChildProcessError, match="last words"):
        program.start()
    assert program.wait() == 3


def test_processes_do_not_see_settings_of_the_test_run(stack, monkeypatch):
    """Only what the harness sets configures a service under test."""
    monkeypatch.setenv("WAYBILL_REDIS_URL", "redis://nowhere.invalid:1/0")
    monkeypatch.setenv("SAMPLE_LISTEN", "nowhere")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")

    assert stack.environment["WAYBILL_REDIS_URL"] == stack.valkey.url
    assert stack.environment["SAMPLE_LISTEN"] == stack.addresses["sample"]
    assert "OTEL_SDK_DISABLED" not in stack.environment
    assert stack.environment["PATH"] == os.environ["PATH"]
