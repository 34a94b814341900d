"""Clients that know nothing of Waybill: server reflection, grpcurl, an OpenTelemetry Collector."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from waybill.metrics.v1 import metrics_pb2
from waybill.reports.v1 import reports_pb2

from conftest import infrastructure
from tests import documents, notices, samples
from tests.refusals import DETAILS, refused
from tests.stack import NAMES, unique, unpacked

PUBLIC = {
    "externalscaler.ExternalScaler",
    "google.longrunning.Operations",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "waybill.admin.v1.DeadLetterService",
    "waybill.admin.v1.OperationService",
    "waybill.admin.v1.QueueService",
    "waybill.admin.v1.WorkerService",
    "waybill.events.v1.EventService",
    "waybill.metrics.v1.MetricsService",
    "waybill.notify.v1.NotifyService",
    "waybill.reports.v1.ReportsService",
}
#: A call of each service that changes nothing and needs nothing to be there.
HARMLESS = {
    "externalscaler.ExternalScaler/IsActive": {},
    "google.longrunning.Operations/ListOperations": {"name": "operations/metrics"},
    "grpc.health.v1.Health/Check": {},
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export": {},
    "waybill.admin.v1.DeadLetterService/ListDeadLetters": {"service": "notify"},
    "waybill.admin.v1.OperationService/GetOperationStats": {"service": "reports", "filter": "state = FAILED"},
    "waybill.admin.v1.QueueService/ListQueues": {"service": "notify"},
    "waybill.admin.v1.WorkerService/ListWorkers": {"service": "metrics"},
    "waybill.events.v1.EventService/Subscribe": {"service": "metrics"},
    "waybill.metrics.v1.MetricsService/ListAlerts": {},
    "waybill.notify.v1.NotifyService/ListTemplates": {},
    "waybill.reports.v1.ReportsService/ListReports": {},
}
#: Field 1999, a varint, as a contract of the future may have it.
NEW_FIELD = b"\xf8\x7c\x01"
REPORT = {"templateId": "standard", "title": "Reflected", "sections": [{"text": {"text": "All is well."}}]}


def later():
    """The report, due in an hour."""
    due = datetime.now(UTC) + timedelta(hours=1)
    return {**REPORT, "options": {"scheduleTime": due.isoformat()}}


class Reflected:
    """A client with a descriptor pool of its own, filled by nothing but the gateway's reflection."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def call(self, name, request, timeout=20):
        """The answer, or the first one of a stream, as JSON."""
        service, _, method = name.partition("/")
        described = self.pool.FindServiceByName(service).methods_by_name[method]
        answer = message_factory.GetMessageClass(described.output_type)
        streams = described.server_streaming
        kind = self.channel.unary_stream if streams else self.channel.unary_unary
        send = kind(f"/{name}", lambda message: message.SerializeToString(), answer.FromString)
        message = json_format.ParseDict(request, message_factory.GetMessageClass(described.input_type)())
        answered = send(message, timeout=timeout)
        return json_format.MessageToDict(next(answered) if streams else answered, descriptor_pool=self.pool)

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))


@pytest.fixture(params=NAMES)
def reflected(request, stack):
    """A reflection client of one gateway."""
    return Reflected(stack.channel(request.param))


def test_every_service_is_listed_and_described_through_one_gateway(reflected):
    """Each service with each of its methods, and the messages that these take and give."""
    listed = set(reflected.database.get_services())
    methods = [
        method for name in sorted(PUBLIC) for method in reflected.pool.FindServiceByName(name).methods_by_name.values()
    ]

    assert listed >= PUBLIC
    assert all(method.input_type.full_name and method.output_type.full_name for method in methods)
    assert {method.containing_service.full_name for method in methods} == PUBLIC


def test_every_service_is_called_through_one_gateway(reflected):
    """With messages built from reflected descriptors alone."""
    answers = {name: reflected.call(name, request) for name, request in HARMLESS.items()}

    assert {name.partition("/")[0] for name in HARMLESS} | {"grpc.reflection.v1alpha.ServerReflection"} == PUBLIC
    assert answers["grpc.health.v1.Health/Check"] == {"status": "SERVING"}
    queues = answers["waybill.admin.v1.QueueService/ListQueues"]["queues"]
    assert {queue["name"] for queue in queues} == {"notify.default", "notify.mail", "notify.webhook"}


def test_an_operation_is_waited_for_and_cancelled_by_reflection(reflected):
    """Metadata and response are read from their Any by the reflected types."""
    ready = reflected.call("waybill.reports.v1.ReportsService/RenderReport", REPORT)
    ended = reflected.call("google.longrunning.Operations/WaitOperation", {"name": ready["name"]})
    scheduled = reflected.call("waybill.reports.v1.ReportsService/RenderReport", later())
    reflected.call("google.longrunning.Operations/CancelOperation", {"name": scheduled["name"]})
    cancelled = reflected.call("google.longrunning.Operations/GetOperation", {"name": scheduled["name"]})

    assert ended["metadata"]["state"] == "OPERATION_STATE_SUCCEEDED"
    assert ended["response"]["report"]["title"] == "Reflected"
    assert (cancelled["metadata"]["state"], cancelled["error"]["code"]) == ("OPERATION_STATE_CANCELLED", 1)


def test_a_rich_error_is_read_by_reflection(reflected):
    """google.rpc.Status and its details are described too."""
    with pytest.raises(grpc.RpcError) as caught:
        reflected.call("waybill.reports.v1.ReportsService/RenderReport", {})

    details = next(value for key, value in caught.value.trailing_metadata() if key == DETAILS)
    status = reflected.message("google.rpc.Status").FromString(details)
    told = [json_format.MessageToDict(each, descriptor_pool=reflected.pool) for each in status.details]
    assert {each.get("reason") for each in told} >= {"INVALID_REQUEST"}
    violations = next(each["fieldViolations"] for each in told if "fieldViolations" in each)
    assert {each["field"] for each in violations} == {"template_id", "title", "sections"}


def grpcurl(address, *arguments, data=None, expect=0):
    """What grpcurl prints about a gateway."""
    command = [infrastructure("grpcurl"), "-plaintext", "-max-time", "20"]
    given = ["-d", json.dumps(data)] if data is not None else []
    options = [each for each in arguments if each.startswith("-")]
    rest = [each for each in arguments if not each.startswith("-")]
    done = subprocess.run(
        [*command, *options, *given, address, *rest], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == expect, done.stderr
    return done.stderr if expect else done.stdout


@pytest.mark.needs("grpcurl")
@pytest.mark.parametrize("through", NAMES)
def test_grpcurl_lists_describes_and_calls_every_service(stack, through):
    """Through any one gateway, with nothing but its address."""
    address = stack.addresses[through]

    assert set(grpcurl(address, "list").split()) >= PUBLIC
    for name in sorted(PUBLIC):
        assert f"{name} is a service" in grpcurl(address, "describe", name)
    for name, request in HARMLESS.items():
        if not name.endswith("/Subscribe"):
            json.loads(grpcurl(address, name, data=request))


@pytest.mark.needs("grpcurl")
def test_grpcurl_waits_for_an_operation_cancels_one_and_reads_rich_errors(stack):
    """As a newcomer would from the command line, at a gateway that owns none of it."""
    address = stack.addresses["notify"]
    render = "waybill.reports.v1.ReportsService/RenderReport"

    name = json.loads(grpcurl(address, render, data=REPORT))["name"]
    ended = json.loads(grpcurl(address, "google.longrunning.Operations/WaitOperation", data={"name": name}))
    scheduled = {"name": json.loads(grpcurl(address, render, data=later()))["name"]}
    grpcurl(address, "google.longrunning.Operations/CancelOperation", data=scheduled)
    cancelled = json.loads(grpcurl(address, "google.longrunning.Operations/GetOperation", data=scheduled))
    refusal = grpcurl(address, render, data={}, expect=64 + grpc.StatusCode.INVALID_ARGUMENT.value[0])

    assert ended["done"]
    assert ended["response"]["report"]["title"] == "Reflected"
    assert cancelled["metadata"]["state"] == "OPERATION_STATE_CANCELLED"
    for told in ("INVALID_REQUEST", "template_id", "is required", "google.rpc.BadRequest"):
        assert told in refusal


@pytest.mark.own_outage
@pytest.mark.needs("grpcurl")
def test_grpcurl_follows_events(stack):
    """The command of docs/events.md, for one event."""
    notices.ensure_template(stack)
    with stack.follow("metrics", "waybill.metrics.operation.accepted") as accepted:
        cursor = accepted.cursor
        name = stack.metrics().IngestSamples(samples.batch("grpcurl", 1.0)).name
        stack.finished(name)
    request = {"service": "metrics", "types": ["waybill.metrics.operation.*"], "cursor": cursor}

    # The stream has no end: grpcurl's own deadline ends it.
    stopped = 64 + grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    command = [infrastructure("grpcurl"), "-plaintext", "-max-time", "2", "-d", json.dumps(request)]
    done = subprocess.run(
        [*command, stack.addresses["reports"], "waybill.events.v1.EventService/Subscribe"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == stopped, done.stderr
    assert name in done.stdout


COLLECTOR = """\
receivers:
  hostmetrics:
    collection_interval: 1s
    initial_delay: 0s
    scrapers: {{{scraper}: {{}}}}
processors:
  batch: {{send_batch_size: 4000, send_batch_max_size: 4000}}
exporters:
  otlp: {{endpoint: "{address}", tls: {{insecure: true}}}}
service:
  telemetry:
    metrics: {{level: none}}
  pipelines:
    metrics: {{receivers: [hostmetrics], processors: [batch], exporters: [otlp]}}
"""


@pytest.mark.needs("otelcol")
@pytest.mark.parametrize(
    ("through", "scraper", "metric"),
    [("metrics", "memory", "system.memory.usage"), ("reports", "load", "system.cpu.load_average.1m")],
)
def test_a_stock_collector_sends_this_machines_metrics(stack, through, scraper, metric, tmp_path):
    """Its hostmetrics receiver and its OTLP exporter, pointed at a gateway, and nothing else."""
    config = tmp_path / "collector.yaml"
    config.write_text(COLLECTOR.format(address=stack.addresses[through], scraper=scraper))
    with stack.follow("metrics", "waybill.metrics.operation.succeeded") as succeeded:
        collector = stack.program(f"otelcol to {through}", [infrastructure("otelcol"), "--config", str(config)])
        collector.start()
        try:
            while not (found := series_of(stack, metric)):
                next(succeeded)
        finally:
            collector.stop()
            stack.processes.remove(collector)

    assert {info.metric for info in found} == {metric}
    assert sum(info.last_value for info in found) > 0


def series_of(stack, metric):
    return stack.metrics().ListSeries(metrics_pb2.ListSeriesRequest(metric_prefix=metric)).series


def test_a_field_that_nobody_here_knows_goes_through(stack):
    """A newer client's field is kept in the operation's payload, and is part of what makes a request the same."""
    newer = documents.of_text(request_id=unique("newer"))
    with_field = reports_pb2.RenderReportRequest.FromString(newer.SerializeToString() + NEW_FIELD)
    stub = stack.reports()

    first, second = stub.RenderReport(with_field), stub.RenderReport(with_field)
    assert first.name == second.name
    assert refused(stub.RenderReport, newer).reason == "REQUEST_ID_REUSED"
    operation, kept = stack.finished(first)
    assert operation.HasField("response")
    payload = unpacked(kept.request, reports_pb2.RenderReportRequest)
    assert [field.field_number for field in UnknownFieldSet(payload)] == [1999]
