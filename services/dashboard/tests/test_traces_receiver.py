import asyncio
import threading

import grpc
import pytest
from chassis.settings import WaybillSettings
from chassis.statuses import reason_of, rpc_status, violations_of
from dashboard_service.settings import DashboardSettings
from dashboard_service.traces_receiver import TraceServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from waybill.traces.v1 import traces_pb2, traces_pb2_grpc

WAIT_SECONDS = 30


class Running:
    """A receiver on a thread of its own."""

    def __init__(self, **given):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        settings = DashboardSettings(
            waybill=WaybillSettings(grace_seconds=WAIT_SECONDS / 2), traces_listen="127.0.0.1:0", **given
        )
        self.server = self.run(self._started(settings))
        self.address = f"127.0.0.1:{self.server.port}"
        self.channel = grpc.insecure_channel(self.address)
        self.traces = traces_pb2_grpc.TraceServiceStub(self.channel)
        self.otlp = trace_service_pb2_grpc.TraceServiceStub(self.channel)

    async def _started(self, settings):
        server = TraceServer(settings)
        await server.start()
        return server

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    def close(self):
        self.channel.close()
        self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def receiver():
    running = Running()
    yield running
    running.close()


@pytest.fixture
def small():
    running = Running(traces_max_spans=100, traces_max_traces=10)
    yield running
    running.close()


@pytest.fixture
def tracer(receiver):
    """A stock SDK that exports each span when it ends."""
    exporter = OTLPSpanExporter(endpoint=receiver.address, insecure=True)
    provider = TracerProvider(resource=Resource.create({"service.name": "reports"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("tests")
    provider.shutdown()


def an_export(*spans):
    request = trace_service_pb2.ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return request


def a_span(trace, span, **given):
    return trace_pb2.Span(trace_id=bytes([trace]) * 16, span_id=bytes([span]) * 8, name=f"{trace}/{span}", **given)


def test_spans_of_a_stock_sdk_are_shown_as_they_were_recorded(receiver, tracer):
    """Names, kinds, times, errors, attributes of every type and links survive the way."""
    with tracer.start_as_current_span("elsewhere") as other:
        linked = other.get_span_context()
    with tracer.start_as_current_span("send", kind=SpanKind.PRODUCER) as root:
        trace_id = f"{root.get_span_context().trace_id:032x}"
        attributes = {"text": "a", "number": 7, "share": 0.5, "flag": True, "list": ["x", "y"]}
        with tracer.start_as_current_span(
            "process", kind=SpanKind.CONSUMER, attributes=attributes, links=[Link(linked)]
        ) as child:
            child.set_status(Status(StatusCode.ERROR, "it broke"))

    spans = receiver.traces.GetTrace(traces_pb2.GetTraceRequest(trace_id=trace_id), timeout=WAIT_SECONDS).spans

    send, process = spans
    assert [span.name for span in spans] == ["send", "process"]
    assert (send.kind, process.kind) == (traces_pb2.SPAN_KIND_PRODUCER, traces_pb2.SPAN_KIND_CONSUMER)
    assert (process.parent_span_id, process.service) == (send.span_id, "reports")
    assert (process.error, process.error_message) == (True, "it broke")
    assert dict(process.attributes) == {
        "text": "a",
        "number": "7",
        "share": "0.5",
        "flag": "true",
        "list": '["x", "y"]',
    }
    assert process.links[0].trace_id == f"{linked.trace_id:032x}"
    assert send.start_time.ToNanoseconds() <= process.start_time.ToNanoseconds()
    assert process.end_time.ToNanoseconds() <= send.end_time.ToNanoseconds()


def test_a_span_that_is_exported_again_is_one_span(receiver):
    """The engine exports at least once; a trace shows each span once."""
    for _ in range(3):
        receiver.otlp.Export(an_export(a_span(1, 1), a_span(1, 2)), timeout=WAIT_SECONDS)

    spans = receiver.traces.GetTrace(traces_pb2.GetTraceRequest(trace_id="01" * 16), timeout=WAIT_SECONDS).spans
    assert sorted(span.name for span in spans) == ["1/1", "1/2"]


def test_spans_without_valid_ids_are_counted_as_rejected(receiver):
    """As the protocol says: the valid ones are kept, the answer counts the others and says why."""
    bad = [trace_pb2.Span(name="no ids"), trace_pb2.Span(name="zero", trace_id=b"\0" * 16, span_id=b"\1" * 8)]

    answer = receiver.otlp.Export(an_export(*bad, a_span(1, 1)), timeout=WAIT_SECONDS)

    assert answer.partial_success.rejected_spans == 2
    assert "trace_id must have 16 bytes" in answer.partial_success.error_message
    assert receiver.server.store.spans == 1


def test_both_bounds_hold_and_the_oldest_trace_goes_first(small):
    """A receiver that is flooded keeps the newest traces within its bounds."""
    for trace in range(1, 31):
        small.otlp.Export(an_export(*(a_span(trace, span) for span in range(1, 21))), timeout=WAIT_SECONDS)

    assert (small.server.store.spans, small.server.store.traces) == (100, 5)
    with pytest.raises(grpc.RpcError) as refused:
        small.traces.GetTrace(traces_pb2.GetTraceRequest(trace_id="01" * 16), timeout=WAIT_SECONDS)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(rpc_status(refused.value)) == "TRACE_NOT_FOUND"
    newest = small.traces.GetTrace(traces_pb2.GetTraceRequest(trace_id="1e" * 16), timeout=WAIT_SECONDS)
    assert len(newest.spans) == 20


def test_a_watcher_sees_what_is_there_and_then_each_further_span_once(receiver):
    """WatchTrace gives the past and the future without a gap or a repeat."""
    receiver.otlp.Export(an_export(a_span(1, 1)), timeout=WAIT_SECONDS)
    watch = receiver.traces.WatchTrace(traces_pb2.WatchTraceRequest(trace_id="01" * 16), timeout=WAIT_SECONDS)
    names = [next(watch).span.name]

    receiver.otlp.Export(an_export(a_span(1, 1), a_span(2, 1), a_span(1, 2)), timeout=WAIT_SECONDS)
    receiver.otlp.Export(an_export(a_span(1, 3)), timeout=WAIT_SECONDS)
    names += [next(watch).span.name, next(watch).span.name]
    watch.cancel()

    assert names == ["1/1", "1/2", "1/3"]


def test_a_trace_may_be_watched_before_it_begins(receiver):
    """A page can wait for the first span."""
    watch = receiver.traces.WatchTrace(traces_pb2.WatchTraceRequest(trace_id="07" * 16), timeout=WAIT_SECONDS)
    watching = threading.Thread(target=lambda: seen.append(next(watch).span.name))
    seen: list[str] = []
    watching.start()

    while not seen:
        receiver.otlp.Export(an_export(a_span(7, 1)), timeout=WAIT_SECONDS)
        watching.join(0.01)
    watch.cancel()

    assert seen == ["7/1"]


@pytest.mark.parametrize("trace_id", ["", "abc", "G" * 32, "A" * 32])
@pytest.mark.parametrize("method", ["GetTrace", "WatchTrace"])
def test_an_id_that_is_none_is_refused_by_name(receiver, method, trace_id):
    """Both calls check the id, and say what one looks like."""
    request = getattr(traces_pb2, f"{method}Request")(trace_id=trace_id)

    def call():
        answer = getattr(receiver.traces, method)(request, timeout=WAIT_SECONDS)
        return next(answer)

    with pytest.raises(grpc.RpcError) as refused:
        call()

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [each.field for each in violations_of(rpc_status(refused.value))] == ["trace_id"]


def test_watchers_end_when_the_receiver_does(receiver):
    """A receiver that stops holds nobody's stream."""
    receiver.otlp.Export(an_export(a_span(1, 1)), timeout=WAIT_SECONDS)
    watch = receiver.traces.WatchTrace(traces_pb2.WatchTraceRequest(trace_id="01" * 16), timeout=WAIT_SECONDS)
    next(watch)

    receiver.run(receiver.server.stop())

    assert list(watch) == []


def test_the_receiver_says_that_it_serves(receiver):
    """Health answers, for whoever waits for the start."""
    stub = health_pb2_grpc.HealthStub(receiver.channel)

    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS).status == 1


def test_a_long_value_is_cut(receiver):
    """An attribute of a megabyte takes no megabyte of memory."""
    span = a_span(1, 1)
    span.attributes.add(key="body").value.string_value = "x" * (1 << 20)
    receiver.otlp.Export(an_export(span), timeout=WAIT_SECONDS)

    kept = receiver.traces.GetTrace(traces_pb2.GetTraceRequest(trace_id="01" * 16), timeout=WAIT_SECONDS).spans[0]

    assert len(kept.attributes["body"]) == 4_096
