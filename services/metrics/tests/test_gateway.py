"""The gateway's own methods over a real port, a real Valkey and a real database."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from chassis.operations import Operations
from chassis.rpc_server import RpcServer
from chassis.settings import WaybillSettings
from chassis.statuses import STATUS_DETAILS_KEY
from chassis.store import AsyncStore, Store
from chassis.testing import attempt
from google.rpc import error_details_pb2, status_pb2
from metrics_service import ingestion, tasks
from metrics_service.evaluation import evaluate_rules
from metrics_service.gateway import MetricsServicer
from metrics_service.ingestion import Batch
from metrics_service.otlp_gateway import OtlpServicer
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from waybill.metrics.v1 import internal_pb2, metrics_pb2, metrics_pb2_grpc
from waybill.operations.v1 import operations_pb2
from waybill.store.v1 import store_pb2

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
RULE = metrics_pb2.AlertRule(rule_id="cpu-high", metric="cpu", comparison=metrics_pb2.COMPARISON_ABOVE, threshold=90)


@pytest.fixture
async def channel(valkey, metrics_store):
    """A channel to an in-process server."""
    server = RpcServer("metrics", WaybillSettings(redis_url=valkey.url))
    operation_store = AsyncStore.connect("metrics", valkey.url)
    operations = Operations(operation_store, tasks.app)
    server.add(metrics_pb2_grpc.add_MetricsServiceServicer_to_server, MetricsServicer(operations, metrics_store))
    server.add(metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server, OtlpServicer(operations))
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as connected:
        yield connected
    await server.stop(0)
    await operation_store.close()


@pytest.fixture
def metrics(channel):
    return metrics_pb2_grpc.MetricsServiceStub(channel)


@pytest.fixture
def otlp(channel):
    return metrics_service_pb2_grpc.MetricsServiceStub(channel)


@pytest.fixture
def accepted(valkey):
    """The records of all operations that the store holds."""
    store = Store.connect("metrics", valkey.url)

    def records():
        keys = store.client.scan_iter(match=store.keys.operation("*"))
        return [store_pb2.OperationRecord.FromString(store.client.hget(key, "rec")) for key in keys]

    yield records
    store.close()


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    details = dict(error.value.trailing_metadata())[STATUS_DETAILS_KEY]
    status = status_pb2.Status.FromString(details)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for packed in status.details:
        packed.Unpack(info)
        packed.Unpack(bad)
    return error.value.code(), info.reason, {violation.field for violation in bad.field_violations}


def sample(**given):
    message = metrics_pb2.Sample(**{"metric": "cpu", "value": 1.0, **given})
    message.time.FromDatetime(NOW)
    return message


def an_export(*values, time=NOW):
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu")
    for value in values:
        metric.gauge.data_points.add(time_unix_nano=int(time.timestamp() * 1e9), as_double=value)
    return request


@pytest.fixture
def fill(metrics_store, a_sample):
    """Put samples into the database as an ingestion does."""

    def add(*samples):
        ingestion.apply(metrics_store.engine, Batch(attempt().effect_id, samples, 0, ""), NOW)

    return add


async def test_samples_are_accepted_as_an_operation(metrics, accepted):
    request = metrics_pb2.IngestSamplesRequest(samples=[sample()], request_id="one")

    operation = await metrics.IngestSamples(request)

    metadata = operations_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    assert (metadata.task, metadata.queue) == ("metrics.ingest_samples", "metrics.ingest")
    (record,) = accepted()
    payload = metrics_pb2.IngestSamplesRequest()
    record.request.Unpack(payload)
    assert payload == metrics_pb2.IngestSamplesRequest(samples=[sample()])


async def test_a_repeated_request_is_one_operation(metrics, accepted):
    request = metrics_pb2.IngestSamplesRequest(samples=[sample()], request_id="one")

    first, second = await metrics.IngestSamples(request), await metrics.IngestSamples(request)

    assert first.name == second.name
    assert len(accepted()) == 1


async def test_bad_samples_are_refused_with_every_violation_and_nothing_is_stored(metrics, accepted):
    request = metrics_pb2.IngestSamplesRequest(
        samples=[sample(), sample(metric="", value=float("nan"))],
        options=operations_pb2.SubmitOptions(max_attempts=1000),
    )

    code, reason, fields = await refused(metrics.IngestSamples(request))

    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert fields == {"samples[1].metric", "samples[1].value", "options.max_attempts"}
    assert accepted() == []


async def test_an_export_is_one_operation_however_often_it_is_sent(otlp, accepted):
    """OTLP has no request_id: the bytes of the export stand for it."""
    for _ in range(2):
        assert await otlp.Export(an_export(1.0)) == metrics_service_pb2.ExportMetricsServiceResponse()

    (record,) = accepted()
    assert record.task == "metrics.ingest_export"
    payload = internal_pb2.IngestExport()
    record.request.Unpack(payload)
    assert metrics_service_pb2.ExportMetricsServiceRequest.FromString(payload.export) == an_export(1.0)


async def test_exports_that_differ_are_operations_of_their_own(otlp, accepted):
    await otlp.Export(an_export(1.0))
    await otlp.Export(an_export(2.0))

    assert len(accepted()) == 2


async def test_an_export_is_told_which_points_were_rejected(otlp, accepted):
    """Partial success, as the protocol has it; the others are accepted."""
    response = await otlp.Export(an_export(1.0, float("nan"), float("inf")))

    assert response.partial_success.rejected_data_points == 2
    assert response.partial_success.error_message == (
        "2 data points rejected: 1 x 'cpu' value is nan; expected a finite number; "
        "1 x 'cpu' value is inf; expected a finite number"
    )
    assert len(accepted()) == 1


async def test_an_export_of_nothing_succeeds_without_an_operation(otlp, accepted):
    empty = metrics_service_pb2.ExportMetricsServiceRequest()
    rejected = await otlp.Export(an_export(float("nan")))

    assert await otlp.Export(empty) == metrics_service_pb2.ExportMetricsServiceResponse()
    assert rejected.partial_success.rejected_data_points == 1
    assert accepted() == []


async def test_while_the_store_is_away_an_export_is_to_be_sent_again(otlp, valkey):
    """UNAVAILABLE is what OTLP exporters retry; RetryInfo says when."""
    valkey.kill()

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await otlp.Export(an_export(1.0))

    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    status = status_pb2.Status.FromString(dict(error.value.trailing_metadata())[STATUS_DETAILS_KEY])
    assert any(packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for packed in status.details)


async def test_a_query_answers_with_points(metrics, fill, a_sample):
    begin = NOW.replace(second=0, microsecond=0)
    fill(a_sample(1.0, at=begin, core="0", unit="1"), a_sample(3.0, at=begin, core="0"))
    request = metrics_pb2.QuerySeriesRequest(metric="cpu")
    request.start_time.FromDatetime(begin)
    request.end_time.FromDatetime(begin + timedelta(minutes=1))

    answer = await metrics.QuerySeries(request)

    (series,) = answer.series
    assert (series.metric, dict(series.labels), series.unit) == ("cpu", {"core": "0"}, "1")
    assert [(point.time.ToDatetime(tzinfo=UTC), point.value) for point in series.points] == [(begin, 2.0)]
    assert answer.resolution == metrics_pb2.RESOLUTION_10_SECONDS
    assert answer.omitted_series == 0


async def test_a_metric_that_was_never_seen_is_not_found(metrics):
    request = metrics_pb2.QuerySeriesRequest(metric="cpu")
    request.start_time.FromDatetime(NOW)
    request.end_time.FromDatetime(NOW + timedelta(minutes=1))

    assert await refused(metrics.QuerySeries(request)) == (grpc.StatusCode.NOT_FOUND, "SERIES_NOT_FOUND", set())


async def test_series_are_listed_page_by_page(metrics, fill, a_sample):
    fill(*(a_sample(metric="cpu", core=str(core)) for core in range(5)), a_sample(metric="memory"))

    listed, token = [], ""
    while True:
        page = await metrics.ListSeries(
            metrics_pb2.ListSeriesRequest(metric_prefix="cpu", page_size=2, page_token=token)
        )
        listed += page.series
        token = page.next_page_token
        if not token:
            break

    assert sorted(series.labels["core"] for series in listed) == list("01234")
    assert listed[0].last_value == 1.0


async def test_a_rule_is_created_read_listed_replaced_and_deleted(metrics):
    created = await metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=RULE))
    assert created.window.seconds == 30
    assert created.HasField("create_time")
    assert await metrics.GetAlertRule(metrics_pb2.GetAlertRuleRequest(rule_id="cpu-high")) == created
    assert list((await metrics.ListAlertRules(metrics_pb2.ListAlertRulesRequest())).rules) == [created]

    changed = metrics_pb2.AlertRule()
    changed.CopyFrom(created)
    changed.threshold = 95
    updated = await metrics.UpdateAlertRule(metrics_pb2.UpdateAlertRuleRequest(rule=changed))
    assert (updated.threshold, updated.create_time) == (95, created.create_time)

    await metrics.DeleteAlertRule(metrics_pb2.DeleteAlertRuleRequest(rule_id="cpu-high"))
    again = metrics.GetAlertRule(metrics_pb2.GetAlertRuleRequest(rule_id="cpu-high"))
    assert await refused(again) == (grpc.StatusCode.NOT_FOUND, "ALERT_RULE_NOT_FOUND", set())


async def test_a_rule_id_that_is_taken_by_another_rule_is_refused(metrics):
    await metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=RULE))
    await metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=RULE))
    other = metrics_pb2.AlertRule()
    other.CopyFrom(RULE)
    other.threshold = 1

    call = metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=other))

    assert await refused(call) == (grpc.StatusCode.ALREADY_EXISTS, "ALERT_RULE_EXISTS", set())


async def test_a_bad_rule_is_refused_with_every_violation(metrics):
    call = metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=metrics_pb2.AlertRule(rule_id="CPU")))

    code, _, fields = await refused(call)

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert fields == {"rule.rule_id", "rule.metric", "rule.comparison"}


async def test_rules_are_listed_page_by_page(metrics):
    for name in ("a", "b", "c"):
        rule = metrics_pb2.AlertRule()
        rule.CopyFrom(RULE)
        rule.rule_id = name
        await metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=rule))

    first = await metrics.ListAlertRules(metrics_pb2.ListAlertRulesRequest(page_size=2))
    second = await metrics.ListAlertRules(
        metrics_pb2.ListAlertRulesRequest(page_size=2, page_token=first.next_page_token)
    )

    assert [rule.rule_id for rule in (*first.rules, *second.rules)] == ["a", "b", "c"]
    assert second.next_page_token == ""


async def test_alerts_are_listed_newest_first_page_by_page(metrics, metrics_store, fill, a_sample):
    for name in ("a", "b", "c"):
        rule = metrics_pb2.AlertRule()
        rule.CopyFrom(RULE)
        rule.rule_id = name
        await metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=rule))
    fill(a_sample(95.0, at=NOW, core="0"))
    evaluating = attempt()
    evaluate_rules(metrics_store.engine, evaluating, NOW)

    first = await metrics.ListAlerts(metrics_pb2.ListAlertsRequest(page_size=2))
    second = await metrics.ListAlerts(metrics_pb2.ListAlertsRequest(page_size=2, page_token=first.next_page_token))
    resolved = await metrics.ListAlerts(metrics_pb2.ListAlertsRequest(state=metrics_pb2.ALERT_STATE_RESOLVED))

    alerts = [*first.alerts, *second.alerts]
    assert {alert.rule_id for alert in alerts} == {"a", "b", "c"}
    assert [alert.alert_id for alert in alerts] == sorted((alert.alert_id for alert in alerts), reverse=True)
    assert {alert.trace_id for alert in alerts} == {evaluating.traceparent.split("-")[1]}
    assert {alert.state for alert in alerts} == {metrics_pb2.ALERT_STATE_FIRING}
    assert list(resolved.alerts) == []


async def test_a_page_token_that_nobody_gave_is_refused(metrics):
    for call in (
        metrics.ListSeries(metrics_pb2.ListSeriesRequest(page_token="%")),
        metrics.ListAlertRules(metrics_pb2.ListAlertRulesRequest(page_token="%")),
        metrics.ListAlerts(metrics_pb2.ListAlertsRequest(page_token="%")),
    ):
        assert await refused(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", {"page_token"})
