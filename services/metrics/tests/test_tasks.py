"""The tasks, as a worker runs them: an attempt and a payload."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from chassis import outbox
from chassis.errors import InvalidArgument
from chassis.testing import attempt
from metrics_service import rule_store, series_store, tasks
from metrics_service.instants import instant_of
from metrics_service.rollups import Resolution
from metrics_service.schema import ROLLUPS
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from waybill.metrics.v1 import internal_pb2, metrics_pb2


@pytest.fixture
def counted(opened):
    """How many samples the rollups of one resolution hold."""

    def count():
        with opened.engine.connect() as connection:
            return connection.execute(sa.select(sa.func.sum(ROLLUPS[Resolution.ONE_HOUR].c.count))).scalar() or 0

    return count


@pytest.fixture
def now():
    return datetime.now(UTC)


@pytest.fixture
def batch(now):
    def make(*ago):
        request = metrics_pb2.IngestSamplesRequest()
        for each in ago:
            request.samples.add(metric="cpu", value=95.0).time.FromDatetime(now - each)
        return request

    return make


@pytest.fixture
def export(now):
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu", unit="1")
    metric.gauge.data_points.add(time_unix_nano=int(now.timestamp() * 1e9), as_double=95.0)
    metric.gauge.data_points.add(as_double=1.0)
    return internal_pb2.IngestExport(export=request.SerializeToString())


def test_samples_are_applied_and_late_ones_counted(counted, batch):
    late = timedelta(hours=1, minutes=1)

    response = tasks.ingest_samples.run(attempt(), batch(timedelta(), timedelta(minutes=59), late))

    assert (response.applied, response.dropped_late, response.already_applied) == (2, 1, False)
    assert counted() == 2


def test_a_second_attempt_applies_nothing(counted, batch):
    """Killed between its commit and its settle: the operation is attempted again, with the same effect id."""
    first = attempt(number=1)
    again = attempt(operation_id=first.operation_id, number=2)
    request = batch(timedelta())

    tasks.ingest_samples.run(first, request)
    response = tasks.ingest_samples.run(again, request)

    assert (response.applied, response.already_applied) == (1, True)
    assert counted() == 1


def test_an_unedited_replay_applies_nothing(counted, batch):
    """A replay is a new operation; its effects are the original's."""
    original = attempt()
    request = batch(timedelta())

    tasks.ingest_samples.run(original, request)
    response = tasks.ingest_samples.run(attempt(effect_id=original.effect_id), request)

    assert response.already_applied
    assert counted() == 1


def test_what_waits_for_long_is_not_late(counted, batch, monkeypatch):
    """Lateness counts from acceptance: an hour in the queue loses nothing."""
    accepted_long_ago = attempt(operation_id=uuid7_of(datetime.now(UTC) - timedelta(hours=10)))

    response = tasks.ingest_samples.run(accepted_long_ago, batch(timedelta(hours=10, minutes=30)))

    assert (response.applied, response.dropped_late) == (1, 0)


def uuid7_of(moment):
    milliseconds = int(moment.timestamp() * 1000)
    text = f"{milliseconds:012x}70008000000000000000"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def test_an_operation_id_tells_when_it_was_accepted():
    before = datetime.now(UTC)

    accepted = instant_of(attempt().effect_id)

    assert before <= accepted <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_a_payload_that_was_edited_into_nonsense_is_refused_for_good(opened, batch):
    """A replay may carry another payload, which no gateway has read."""
    with pytest.raises(InvalidArgument):
        tasks.ingest_samples.run(attempt(), metrics_pb2.IngestSamplesRequest(samples=[metrics_pb2.Sample()]))


def test_an_export_is_applied_without_the_points_that_were_rejected(counted, export):
    response = tasks.ingest_export.run(attempt(), export)

    assert response.applied == 1
    assert counted() == 1


def test_an_export_leaves_its_trace_with_the_series(opened, export):
    ingesting = attempt()

    tasks.ingest_export.run(ingesting, export)

    (record,) = series_store.list_series(opened.engine, "", None, 10)
    assert record.traceparent == ingesting.traceparent
    assert record.unit == "1"


def test_an_evaluation_fires_once_however_often_it_is_attempted(opened, batch, a_rule, now):
    rule_store.create(opened.engine, a_rule(), now)
    tasks.ingest_samples.run(attempt(), batch(timedelta()))
    request = internal_pb2.EvaluateRules()
    request.time.FromDatetime(now)
    first = attempt()

    responses = [
        tasks.evaluate_rules.run(each, request) for each in (first, attempt(operation_id=first.operation_id, number=2))
    ]

    assert [(each.evaluated, each.fired, each.resolved) for each in responses] == [(1, 1, 0)] * 2
    with opened.engine.connect() as connection:
        assert [event.type for event in outbox.pending(connection)] == ["waybill.metrics.alert.fired"]


def test_an_evaluation_deletes_what_is_too_old(opened, batch, counted, now):
    old = attempt(operation_id=uuid7_of(now - timedelta(days=500)))
    tasks.ingest_samples.run(old, batch(timedelta(days=500)))
    assert counted() == 1
    request = internal_pb2.EvaluateRules()
    request.time.FromDatetime(now)

    tasks.evaluate_rules.run(attempt(), request)

    assert counted() == 0


def test_each_task_has_its_queue_and_its_payload():
    assert {task.name: (task.queue_name, task.request_type) for task in tasks.app.operation_tasks.values()} == {
        "metrics.ingest_export": ("metrics.ingest", internal_pb2.IngestExport),
        "metrics.ingest_samples": ("metrics.ingest", metrics_pb2.IngestSamplesRequest),
        "metrics.evaluate_rules": ("metrics.alerts", internal_pb2.EvaluateRules),
    }
