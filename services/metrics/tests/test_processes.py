"""The service as it is deployed: a stock OpenTelemetry SDK, real processes, the events that come out."""

from collections.abc import Iterator

import pytest
from chassis.testing.harness import Harness, ServiceUnderTest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

FIRED, RESOLVED = "waybill.metrics.alert.fired", "waybill.metrics.alert.resolved"
WAIT_SECONDS = 60


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Harness]:
    processes = ServiceUnderTest(
        "metrics",
        "metrics_service",
        roles=("gateway", "worker", "scheduler"),
        environment={"METRICS_EVALUATION_INTERVAL_SECONDS": "1"},
        routed_packages=("opentelemetry.proto.collector.metrics.v1",),
    )
    with Harness(tmp_path_factory.mktemp("metrics"), [processes]) as harness:
        harness.start()
        yield harness


@pytest.fixture
def metrics(service):
    return service.stub("metrics", metrics_pb2_grpc.MetricsServiceStub)


@pytest.fixture
def events(service):
    """Follow the service's events of one type, from now on; the first answer says that the stream stands."""
    calls = []

    def follow(*types):
        stub = service.stub("metrics", events_pb2_grpc.EventServiceStub)
        call = stub.Subscribe(events_pb2.SubscribeRequest(types=types), timeout=WAIT_SECONDS)
        calls.append(call)
        next(call)
        return (answer.event for answer in call if answer.HasField("event"))

    yield follow
    for call in calls:
        call.cancel()


class Load:
    """An instrument of an application: its value is what the test says."""

    def __init__(self, endpoint: str) -> None:
        self.value = 0.0
        exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=500)
        resource = Resource.create({"service.name": "shop", "service.instance.id": "shop-1"})
        self.provider = MeterProvider([reader], resource)
        meter = self.provider.get_meter("shop")
        meter.create_observable_gauge("shop.load", [lambda _: [Observation(self.value, {"core": "0"})]], unit="1")
        self.latency = meter.create_histogram("shop.latency", unit="ms")


@pytest.fixture
def load(service):
    running = Load(service.addresses["metrics"])
    yield running
    running.provider.shutdown()


def test_a_stock_sdk_s_metrics_become_an_alert_that_fires_and_is_resolved(service, metrics, events, load):
    """Exports are ingested, a rule is evaluated on a timer, and the incident is one trace from firing to its end."""
    alerts = events(FIRED, RESOLVED)
    metrics.CreateAlertRule(
        metrics_pb2.CreateAlertRuleRequest(
            rule=metrics_pb2.AlertRule(
                rule_id="load-high",
                metric="shop.load",
                aggregation=metrics_pb2.TIME_AGGREGATION_LAST,
                comparison=metrics_pb2.COMPARISON_ABOVE,
                threshold=0.9,
            )
        )
    )

    load.value = 1.0
    fired = next(alerts)
    load.value = 0.1
    resolved = next(alerts)

    assert (fired.type, resolved.type) == (FIRED, RESOLVED)
    of_firing, of_resolving = metrics_pb2.AlertFired(), metrics_pb2.AlertResolved()
    assert fired.data.Unpack(of_firing)
    assert resolved.data.Unpack(of_resolving)
    assert of_firing.alert.value == 1.0
    assert dict(of_firing.alert.labels) == {"core": "0", "service.name": "shop", "service.instance.id": "shop-1"}
    assert of_resolving.alert.alert_id == of_firing.alert.alert_id
    trace_id = of_firing.alert.trace_id
    assert [event.traceparent.split("-")[1] for event in (fired, resolved)] == [trace_id, trace_id]
    spans = service.collector.wait_for_trace(trace_id, lambda found: {FIRED, RESOLVED} <= published(found))
    by_name = {span.name: span for span in spans}
    assert by_name[f"publish {RESOLVED}"].parent_id == by_name[f"publish {FIRED}"].span_id
    assert by_name[f"publish {FIRED}"].parent_id == by_name["process metrics.alerts"].span_id
    assert {trace for trace, _ in by_name[f"publish {FIRED}"].links} & ingestions(service)


def published(spans):
    return {span.name.removeprefix("publish ") for span in spans if span.name.startswith("publish ")}


def ingestions(service):
    return {span.trace_id for span in service.collector.spans if span.name == "process metrics.ingest"}


def test_what_an_sdk_recorded_can_be_queried(service, metrics, events, load):
    """A histogram is its count, its sum and its extremes."""
    ingested = events("waybill.metrics.operation.succeeded")
    load.latency.record(3.0)
    load.latency.record(5.0)
    assert load.provider.force_flush()

    listed = until_listed(metrics, ingested, "shop.latency.")

    assert {info.metric: (info.last_value, info.unit) for info in listed} == {
        "shop.latency.count": (2.0, "1"),
        "shop.latency.sum": (8.0, "ms"),
        "shop.latency.min": (3.0, "ms"),
        "shop.latency.max": (5.0, "ms"),
    }


def until_listed(metrics, ingested, prefix):
    """Series that begin so, asked for after each operation that has succeeded."""
    while True:
        found = list(metrics.ListSeries(metrics_pb2.ListSeriesRequest(metric_prefix=prefix)).series)
        if found:
            return found
        next(ingested)


def test_samples_are_an_operation_that_tells_what_was_applied(service, metrics, noon):
    request = metrics_pb2.IngestSamplesRequest()
    late = request.samples.add(metric="jobs", value=1.0)
    late.time.FromDatetime(noon.replace(year=2020))
    request.samples.add(metric="jobs", value=2.0).time.GetCurrentTime()

    operation, _ = service.finished(metrics.IngestSamples(request))

    response = metrics_pb2.IngestSamplesResponse()
    assert operation.response.Unpack(response)
    assert (response.applied, response.dropped_late, response.already_applied) == (1, 1, False)
