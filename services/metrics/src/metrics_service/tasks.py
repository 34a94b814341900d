"""What metrics does in the background."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chassis.logging import get_logger
from chassis.retries import RetryPolicy
from chassis.worker import Attempt
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from waybill.metrics.v1 import internal_pb2, metrics_pb2

from metrics_service import evaluation, ingestion, otlp, pruning, requests, store
from metrics_service.app import app
from metrics_service.ingestion import Batch
from metrics_service.instants import instant_of
from metrics_service.samples import Sample, split_late

log = get_logger()

# Ingestion is tried for about an hour: what was accepted is worth the wait for a database to come back.
_INGESTION = RetryPolicy(max_attempts=40, max_backoff=timedelta(minutes=3))
_INGESTION_RETENTION = timedelta(minutes=10)


@app.task(name="metrics.ingest_export", policy=_INGESTION, timeout=timedelta(minutes=1), retention=_INGESTION_RETENTION)
def ingest_export(attempt: Attempt, request: internal_pb2.IngestExport) -> metrics_pb2.IngestSamplesResponse:
    """Add the samples of one OTLP export; the gateway has told its sender which points are rejected."""
    export = ExportMetricsServiceRequest.FromString(request.export)
    return _ingest(attempt, otlp.decode(export, instant_of(attempt.effect_id)).samples)


@app.task(
    name="metrics.ingest_samples", policy=_INGESTION, timeout=timedelta(minutes=1), retention=_INGESTION_RETENTION
)
def ingest_samples(attempt: Attempt, request: metrics_pb2.IngestSamplesRequest) -> metrics_pb2.IngestSamplesResponse:
    """Add samples."""
    return _ingest(attempt, requests.read_samples(request.samples, instant_of(attempt.effect_id)))


@app.task(
    name="metrics.evaluate_rules",
    policy=RetryPolicy(max_attempts=5, max_backoff=timedelta(seconds=10)),
    timeout=timedelta(minutes=1),
    retention=timedelta(hours=1),
)
def evaluate_rules(attempt: Attempt, request: internal_pb2.EvaluateRules) -> internal_pb2.EvaluateRulesResponse:
    """Evaluate every alert rule for one instant, then delete what is past its retention."""
    opened = store.opened()
    done = evaluation.evaluate_rules(opened.engine, attempt, request.time.ToDatetime(tzinfo=UTC))
    if done.fired or done.resolved:
        log.info("alerts.changed", fired=done.fired, resolved=done.resolved)
    if pruned := pruning.prune(opened.engine, opened.retention, datetime.now(UTC)):
        log.info("rows.pruned", rows=pruned)
    return internal_pb2.EvaluateRulesResponse(evaluated=done.evaluated, fired=done.fired, resolved=done.resolved)


def _ingest(attempt: Attempt, samples: Sequence[Sample]) -> metrics_pb2.IngestSamplesResponse:
    opened = store.opened()
    on_time, dropped_late = split_late(samples, instant_of(attempt.effect_id), opened.allowed_lateness)
    batch = Batch(attempt.effect_id, on_time, dropped_late, attempt.traceparent)
    done = ingestion.apply(opened.engine, batch, datetime.now(UTC))
    if done.dropped_late:
        log.info("samples.dropped_late", dropped=done.dropped_late, applied=done.applied)
    return metrics_pb2.IngestSamplesResponse(
        applied=done.applied, dropped_late=done.dropped_late, already_applied=done.already
    )
