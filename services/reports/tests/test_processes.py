"""The service's real processes, against a real Valkey and the contract of the metrics service."""

import hashlib
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from chassis.statuses import detail, reason_of, rpc_status
from chassis.testing.harness import Harness, ServiceUnderTest
from google.rpc import error_details_pb2
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2
from waybill.operations.v1 import operations_pb2
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

CPU = "system.cpu.utilization"
CHUNK = 64 << 10


@pytest.fixture(scope="module")
def stack(tmp_path_factory, metrics_service):
    """Gateway, worker and subscriber; metrics is the fake."""
    spec = ServiceUnderTest("reports", "reports_service", roles=("gateway", "worker", "subscriber"))
    with Harness(
        tmp_path_factory.mktemp("reports"), [spec], environment={"WAYBILL_ROUTES": f"metrics={metrics_service.address}"}
    ) as running:
        running.start()
        yield running


@pytest.fixture
def reports(stack):
    """A stock stub of the gateway."""
    return stack.stub("reports", reports_pb2_grpc.ReportsServiceStub)


def a_request(**fields):
    now = datetime.now(UTC)
    request = reports_pb2.RenderReportRequest(template_id="standard", title="Capacity", **fields)
    request.start_time.FromDatetime(now - timedelta(minutes=30))
    request.end_time.FromDatetime(now)
    request.sections.add().chart.metric = CPU
    return request


def a_resolved_event(number, alert_id):
    now = datetime.now(UTC)
    alert = metrics_pb2.Alert(alert_id=alert_id, rule_id="cpu-high", metric=CPU, threshold=0.8, worst_value=0.9)
    alert.breach_time.FromDatetime(now - timedelta(minutes=5))
    alert.fire_time.FromDatetime(now - timedelta(minutes=4))
    alert.resolve_time.FromDatetime(now)
    event = events_pb2.Event(
        id=f"0190b0a0-0000-7000-8000-00000000000{number}",
        source="/waybill/metrics",
        type="waybill.metrics.alert.resolved",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    event.data.Pack(metrics_pb2.AlertResolved(alert=alert))
    return event


def refused(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        list(call(request))
    return rpc_status(caught.value)


def violated(status):
    return {violation.field for violation in detail(status, error_details_pb2.BadRequest).field_violations}


@pytest.mark.slow
def test_a_report_is_ordered_rendered_listed_downloaded_and_deleted(stack, reports, metrics, now):
    """The whole life of one, through the gateway alone."""
    metrics.add(CPU, begin=now - timedelta(minutes=30))

    operation, metadata = stack.finished(reports.RenderReport(a_request(request_id="one")))
    repeated = reports.RenderReport(a_request(request_id="two"))
    stack.finished(repeated)

    response = reports_pb2.RenderReportResponse()
    assert operation.response.Unpack(response), operation
    report = response.report
    assert metadata.state == operations_pb2.OPERATION_STATE_SUCCEEDED
    assert metadata.queue == "reports.default"
    assert metadata.progress == operations_pb2.Progress(percent=95, message="saving")
    assert report.operation == operation.name
    assert reports.GetReport(reports_pb2.GetReportRequest(report_id=report.report_id)) == report

    first_page = reports.ListReports(reports_pb2.ListReportsRequest(page_size=1))
    second_page = reports.ListReports(reports_pb2.ListReportsRequest(page_token=first_page.next_page_token))
    assert repeated.name == first_page.reports[0].operation
    assert list(second_page.reports) == [report]
    assert second_page.next_page_token == ""

    request = reports_pb2.DownloadReportRequest(report_id=report.report_id)
    messages = list(reports.DownloadReport(request))
    content = b"".join(message.chunk for message in messages)
    assert messages[0].report == report
    assert not any(message.HasField("report") for message in messages[1:])
    assert max(len(message.chunk) for message in messages) <= CHUNK
    assert (len(content), hashlib.sha256(content).hexdigest()) == (report.size_bytes, report.sha256)
    request.offset = 1_000
    assert b"".join(message.chunk for message in reports.DownloadReport(request)) == content[1_000:]
    request.offset = report.size_bytes
    (ending,) = reports.DownloadReport(request)
    assert (ending.report, ending.chunk) == (report, b"")
    request.offset = report.size_bytes + 1
    assert reason_of(refused(reports.DownloadReport, request)) == "OFFSET_OUT_OF_RANGE"

    (stack.state_dir / "reports" / "artifacts" / report.location).write_bytes(content[:-1])
    request.offset = 0
    lost = refused(reports.DownloadReport, request)
    assert (lost.code, reason_of(lost)) == (grpc.StatusCode.DATA_LOSS.value[0], "ARTIFACT_LOST")

    reports.DeleteReport(reports_pb2.DeleteReportRequest(report_id=report.report_id))
    assert list(stack.state_dir.rglob(f"{report.report_id}*")) == []
    for call, gone in (
        (reports.GetReport, reports_pb2.GetReportRequest(report_id=report.report_id)),
        (reports.DeleteReport, reports_pb2.DeleteReportRequest(report_id=report.report_id)),
        (reports.DownloadReport, reports_pb2.DownloadReportRequest(report_id=report.report_id)),
    ):
        status = refused(call, gone)
        assert (status.code, reason_of(status)) == (grpc.StatusCode.NOT_FOUND.value[0], "REPORT_NOT_FOUND")


@pytest.mark.slow
def test_bad_input_is_refused_whole_and_an_unknown_metric_ends_the_operation(stack, reports, metrics):
    """Nothing is stored of what is refused; what cannot succeed fails at its first attempt."""
    before = listed(reports)
    status = refused(reports.RenderReport, reports_pb2.RenderReportRequest())
    assert violated(status) == {"template_id", "title", "sections"}
    unknown = a_request()
    unknown.template_id = "poster"
    assert reason_of(refused(reports.RenderReport, unknown)) == "TEMPLATE_NOT_FOUND"
    assert violated(refused(reports.GetReport, reports_pb2.GetReportRequest())) == {"report_id"}
    both = reports_pb2.DownloadReportRequest(offset=-1)
    assert violated(refused(reports.DownloadReport, both)) == {"report_id", "offset"}
    token = reports_pb2.ListReportsRequest(page_size=-1, page_token="nonsense")
    assert violated(refused(reports.ListReports, token)) == {"page_size", "page_token"}
    schedule = refused(reports.CreateSchedule, reports_pb2.CreateScheduleRequest())
    assert schedule.code == grpc.StatusCode.UNIMPLEMENTED.value[0]

    operation, metadata = stack.finished(reports.RenderReport(a_request()))

    assert [query.metric for query in metrics.queries] == [CPU]
    assert reason_of(operation.error) == "SERIES_NOT_FOUND"
    assert CPU in operation.error.message
    assert metadata.attempt == 1
    assert listed(reports) == before


@pytest.mark.slow
def test_a_resolved_alert_becomes_one_report_in_its_trace(stack, reports, metrics, now):
    """The first event arrives twice and is one report; what it publishes continues the incident's trace."""
    metrics.add(CPU, begin=now - timedelta(minutes=30))
    assert metrics.subscribed.wait(20)
    completed = follow(stack)

    metrics.events += [a_resolved_event(1, "a1"), a_resolved_event(1, "a1"), a_resolved_event(2, "a2")]

    events = [next(completed).event, next(completed).event]
    told = [report_of(event) for event in events]
    assert {each.alert_id: each.report.charts for each in told} == {"a1": 2, "a2": 2}
    assert {each.report.template_id for each in told} == {"incident"}
    assert {event.traceparent.split("-")[1] for event in events} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    traces = {metadata["traceparent"].split("-")[1] for metadata in metrics.metadata}
    assert traces == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    incidents = [report for report in listed(reports) if report.template_id == "incident"]
    assert {report.report_id for report in incidents} == {each.report.report_id for each in told}
    assert len(incidents) == 2


def listed(reports):
    return list(reports.ListReports(reports_pb2.ListReportsRequest()).reports)


def report_of(event):
    completed = reports_pb2.ReportCompleted()
    assert event.data.Unpack(completed)
    return completed


def follow(stack):
    """Events of completed reports, from now on: the heartbeat at the start has been read."""
    stub = stack.stub("reports", events_pb2_grpc.EventServiceStub)
    stream = stub.Subscribe(
        events_pb2.SubscribeRequest(types=["waybill.reports.report.completed"]), timeout=60, wait_for_ready=True
    )
    assert not next(stream).HasField("event")
    return (answer for answer in stream if answer.HasField("event"))
