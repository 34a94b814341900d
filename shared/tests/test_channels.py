"""Channels to other services: traced, bounded, and found by name."""

import asyncio
import contextlib
import threading
from concurrent import futures

import grpc
import pytest
from chassis import channels, telemetry
from chassis.channels import Channels
from chassis.settings import WaybillSettings
from chassis.telemetry import SpanContext
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

METHOD = "waybill.reports.v1.ReportsService/GetReport"


class Reports(reports_pb2_grpc.ReportsServiceServicer):
    def __init__(self):
        self.release = threading.Event()

    def GetReport(self, request, context):
        self.traceparent = dict(context.invocation_metadata()).get("traceparent")
        self.remaining = context.time_remaining()
        if request.report_id == "slow":
            self.release.wait(30)
        if request.report_id == "none":
            context.abort(grpc.StatusCode.NOT_FOUND, "none")
        return reports_pb2.Report(report_id=request.report_id)

    def DownloadReport(self, request, context):
        self.traceparent = dict(context.invocation_metadata()).get("traceparent")
        self.remaining = context.time_remaining()
        yield reports_pb2.DownloadReportResponse(chunk=b"1")
        yield reports_pb2.DownloadReportResponse(chunk=b"2")


@contextlib.contextmanager
def serving():
    reports = Reports()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    reports_pb2_grpc.add_ReportsServiceServicer_to_server(reports, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    reports.channels = Channels(WaybillSettings(routes={"reports": f"127.0.0.1:{port}"}))
    yield reports
    reports.release.set()
    server.stop(0).wait()


@pytest.fixture
def reports():
    with serving() as running:
        yield running


@pytest.fixture
def spans(monkeypatch):
    emitted, arrived = [], threading.Event()

    def emit(span):
        emitted.append(span)
        arrived.set()

    monkeypatch.setattr(telemetry, "emit", emit)
    return lambda: arrived.wait(10) and emitted


def get(report_id):
    return reports_pb2.GetReportRequest(report_id=report_id)


def test_a_blocking_call_is_a_client_span_of_its_caller(reports, spans):
    """The other side continues the CLIENT span, whose parent is the attempt."""
    attempt = SpanContext.new_root()
    stub = reports_pb2_grpc.ReportsServiceStub(reports.channels.blocking("reports"))
    with telemetry.use_span(attempt):
        stub.GetReport(get("r"))

    (span,) = spans()
    assert (span.name, span.kind, span.error) == (METHOD, telemetry.CLIENT, "")
    assert span.parent_span_id == attempt.span_id
    assert reports.traceparent == span.context.traceparent


def test_a_failed_call_is_an_error_of_its_client(reports, spans):
    """NOT_FOUND is an error where the call was made (OpenTelemetry's conventions)."""
    stub = reports_pb2_grpc.ReportsServiceStub(reports.channels.blocking("reports"))
    with telemetry.use_span(SpanContext.new_root()), pytest.raises(grpc.RpcError):
        stub.GetReport(get("none"))

    (span,) = spans()
    assert span.error == "NOT_FOUND"
    assert span.attributes["rpc.grpc.status_code"] == 5


def test_a_call_outside_of_a_trace_begins_none(reports, spans):
    """A command or a poll is no trace of its own; the gateway begins one where it matters."""
    stub = reports_pb2_grpc.ReportsServiceStub(reports.channels.blocking("reports"))
    stub.GetReport(get("r"))

    assert reports.traceparent is None


def test_a_call_has_ten_seconds_unless_told_otherwise(reports):
    """One answer has a default deadline, a stream has none, and the caller's own is kept."""
    stub = reports_pb2_grpc.ReportsServiceStub(reports.channels.blocking("reports"))

    stub.GetReport(get("r"))
    assert 8 < reports.remaining < 11
    stub.GetReport(get("r"), timeout=3)
    assert 2 < reports.remaining < 4
    assert len(list(stub.DownloadReport(reports_pb2.DownloadReportRequest()))) == 2
    assert reports.remaining is None or reports.remaining > 1e6


def test_a_stream_is_one_span(reports, spans):
    """From the call to its last answer."""
    stub = reports_pb2_grpc.ReportsServiceStub(reports.channels.blocking("reports"))
    with telemetry.use_span(SpanContext.new_root()):
        list(stub.DownloadReport(reports_pb2.DownloadReportRequest()))

    (span,) = spans()
    assert span.name == "waybill.reports.v1.ReportsService/DownloadReport"
    assert reports.traceparent == span.context.traceparent


def test_a_deadline_ends_a_call(reports, spans):
    """What hangs is given up, and the span says why."""
    stub = reports_pb2_grpc.ReportsServiceStub(reports.channels.blocking("reports"))
    with telemetry.use_span(SpanContext.new_root()), pytest.raises(grpc.RpcError):
        stub.GetReport(get("slow"), timeout=0.2)

    (span,) = spans()
    assert span.error == "DEADLINE_EXCEEDED"


async def test_asyncio_calls_are_traced_alike(reports, monkeypatch):
    """Unary calls and streams, those that fail included."""
    emitted = asyncio.Queue()
    monkeypatch.setattr(telemetry, "emit", emitted.put_nowait)
    stub = reports_pb2_grpc.ReportsServiceStub(reports.channels.asynchronous("reports"))
    with telemetry.use_span(SpanContext.new_root()):
        assert (await stub.GetReport(get("r"))).report_id == "r"
        span = await asyncio.wait_for(emitted.get(), 10)
        assert reports.traceparent == span.context.traceparent
        assert 8 < reports.remaining < 11

        answers = [answer.chunk async for answer in stub.DownloadReport(reports_pb2.DownloadReportRequest())]
        assert answers == [b"1", b"2"]
        assert reports.traceparent == (await asyncio.wait_for(emitted.get(), 10)).context.traceparent

        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetReport(get("none"))
        assert (await asyncio.wait_for(emitted.get(), 10)).error == "NOT_FOUND"
    await reports.channels.close()


def test_a_channel_is_opened_once(reports):
    """Threads share a service's channel."""
    assert reports.channels.blocking("reports") is reports.channels.blocking("reports")


def test_a_service_without_a_route_is_named(reports):
    """The error says what WAYBILL_ROUTES has."""
    with pytest.raises(LookupError, match="'yard'; it has reports"):
        reports.channels.blocking("yard")


def test_the_routes_of_the_environment_are_used(reports, monkeypatch):
    """`channel_to` needs nothing but a name."""
    monkeypatch.setenv("WAYBILL_ROUTES", f"depot={reports.channels.target('reports')}")
    channels._channels.cache_clear()
    try:
        stub = reports_pb2_grpc.ReportsServiceStub(channels.channel_to("depot"))
        assert stub.GetReport(get("r")).report_id == "r"
    finally:
        channels.channel_to("depot").close()
        channels._channels.cache_clear()
