"""Kill -9 at the worst instants, found without a hook: databases are locked, receivers wait, Valkey freezes."""

import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from tests import documents, incident, notices, samples
from tests.stack import LEASE_SECONDS, RESCUE_SECONDS, TICKING, response_of, signal_group, unique, until

pytestmark = pytest.mark.own_outage

LOST_THEN_SUCCEEDED = [ops.ATTEMPT_OUTCOME_LOST, ops.ATTEMPT_OUTCOME_SUCCEEDED]


@pytest.fixture(autouse=True)
def template(stack):
    notices.ensure_template(stack)


def outcomes(kept):
    return [attempt.outcome for attempt in kept.attempts]


def assert_rescued_in_time(kept, killed_at):
    """Attempt 2 began within the lease and five seconds, in another worker, and ended it."""
    lost, second = kept.attempts

    assert outcomes(kept) == LOST_THEN_SUCCEEDED
    assert second.begin_time.ToNanoseconds() / 1e9 - killed_at < LEASE_SECONDS + RESCUE_SECONDS
    assert lost.worker != second.worker


def completed_times(stack, cursor, wanted):
    """How many events after the cursor are about what is wanted, up to an operation that is accepted now."""
    sentinel = stack.reports().RenderReport(documents.of_text(unique("sentinel"))).name
    stack.finished(sentinel)
    with stack.resumed("reports", cursor) as events:
        events.until(reports_pb2.ReportCompleted, lambda data: data.report.operation == sentinel)
        return sum(event.type == incident.COMPLETED and event.subject == wanted for event in events.seen)


def test_a_worker_of_threads_killed_in_mid_attempt_is_followed_by_another(stack, receiver):
    """The receiver had not answered; it is asked again with the same id, and the operation succeeds."""
    endpoint = receiver.endpoint().hold()
    _, (delivery,) = notices.send(stack, endpoint.channel)
    endpoint.wait_for(1)
    _, running = stack.get(delivery)

    with stack.another("notify", "worker"):
        killed_at = time.time()
        stack.process("notify", "worker").kill()
        endpoint.let_go()
        _, kept = stack.finished(delivery)

    assert running.state == ops.OPERATION_STATE_RUNNING
    assert_rescued_in_time(kept, killed_at)
    assert len({request.headers["webhook-id"] for request in endpoint.wait_for(2)}) == 1


def test_a_worker_of_processes_killed_in_mid_attempt_is_followed_by_another(stack):
    """Its pool's children end with it, so that no attempt goes on that nobody renews."""
    with (
        stack.follow("reports") as events,
        stack.another("reports", "worker") as another,
        about_to_save(stack) as (name, database),
    ):
        cursor = events.cursor
        _, running = stack.get(name)
        both = (another, stack.process("reports", "worker"))
        (runs,) = [worker for worker in both if running.worker.endswith(f":{worker.pid}")]
        killed_at = time.time()
        runs.kill()
        database.execute("COMMIT")
        operation, kept = stack.finished(name)
    stack.make_whole()

    assert_rescued_in_time(kept, killed_at)
    report = response_of(operation, reports_pb2.RenderReportResponse).report
    assert (stack.artifacts / report.location).stat().st_size == report.size_bytes
    assert completed_times(stack, cursor, report.report_id) == 1


@contextmanager
def about_to_save(stack):
    """The name of a report that is rendered and whose attempt waits for the lock of its database, which this holds.

    It is held up while it asks for series until the lock is taken: a pool's child opens its database when it begins.
    """
    metrics = stack.process("metrics", "gateway")
    metric = unique("metric")
    stack.finished(stack.metrics().IngestSamples(samples.batch(metric, 1.0)))
    with stack.database("reports") as database, stack.follow("reports", "waybill.reports.operation.*") as changes:
        signal_group(metrics, signal.SIGSTOP)
        name = stack.reports().RenderReport(documents.with_a_chart(metric)).name
        until_reported(changes, name, "fetching 1 series")
        database.execute("BEGIN IMMEDIATE")
        signal_group(metrics, signal.SIGCONT)
        until_reported(changes, name, "saving")
        yield name, database


def until_reported(changes, name, message):
    changes.until(events_pb2.OperationChanged, lambda each: each.operation == name and each.progress.message == message)


def test_a_report_whose_worker_is_killed_between_commit_and_settle_is_one_report(stack):
    """Attempt 2 finds the row and renders nothing; the event that the row owes is published once."""
    with stack.follow("reports") as events, about_to_save(stack) as (name, database):
        cursor, report_id = events.cursor, name.rpartition("/")[2]
        with stack.frozen_valkey():
            database.execute("COMMIT")
            rows = "SELECT count(*) FROM reports WHERE report_id = ?"
            until(lambda: database.execute(rows, (report_id,)).fetchone()[0], "the report's row")
            stack.process("reports", "worker").kill()
    stack.make_whole()
    operation, kept = stack.finished(name)

    assert outcomes(kept) == LOST_THEN_SUCCEEDED
    assert response_of(operation, reports_pb2.RenderReportResponse).report.report_id == report_id
    assert len(list(stack.artifacts.rglob(f"{report_id}*"))) == 1
    assert completed_times(stack, cursor, report_id) == 1


def test_a_delivery_whose_worker_is_killed_between_commit_and_settle_is_not_sent_again(stack, receiver):
    """The row says that it was delivered: attempt 2 asks nobody, and its event is published once."""
    endpoint = receiver.endpoint().hold()
    with stack.follow("notify", incident.DELIVERED) as delivered, stack.database("notify") as database:
        _, (delivery,) = notices.send(stack, endpoint.channel)
        endpoint.wait_for(1)
        effect_id = endpoint.received[0].headers["webhook-id"]
        with stack.frozen_valkey():
            endpoint.let_go()
            done = "SELECT deliver_time_us FROM deliveries WHERE effect_id = ?"
            until(lambda: database.execute(done, (effect_id,)).fetchone()[0], "the delivery's time")
            stack.process("notify", "worker").kill()
        stack.make_whole()
        _, kept = stack.finished(delivery)
        _, (sentinel,) = notices.send(stack, notices.email())
        delivered.until(notify_pb2.DeliveryDelivered, lambda data: data.delivery.operation == sentinel)

    assert outcomes(kept) == LOST_THEN_SUCCEEDED
    assert len(endpoint.received) == 1
    assert [event.subject for event in delivered.seen].count(delivery) == 1


def test_samples_and_alerts_whose_worker_is_killed_between_commit_and_settle_count_once(stack):
    """One batch is added once; one evaluation fires once. Both had committed, neither had settled."""
    rule, metric = unique("rule"), unique("metric")
    stack.finished(stack.metrics().IngestSamples(samples.batch(rule, 5.0)))
    scheduler = stack.process("metrics", "scheduler")
    signal_group(scheduler, signal.SIGSTOP)
    stack.finished_all("metrics", f"task = {TICKING}")
    stack.metrics().CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=above(rule, 1.0)))
    with (
        stack.database("metrics") as database,
        stack.follow("metrics", "waybill.metrics.operation.began") as began,
    ):
        # The stream may end with the server; what comes after this is read anew.
        cursor = began.cursor
        database.execute("BEGIN IMMEDIATE")
        batch = stack.metrics().IngestSamples(samples.batch(metric, 1.0, 2.0)).name
        began.operation(batch)
        signal_group(scheduler, signal.SIGCONT)
        evaluation = began.until(events_pb2.OperationChanged, lambda change: change.task == TICKING).operation
        signal_group(scheduler, signal.SIGSTOP)
        with stack.frozen_valkey():
            database.execute("COMMIT")
            until(lambda: committed(database, batch, rule), "both commits")
            stack.process("metrics", "worker").kill()
            # A settle that the worker had sent waits in the frozen server's socket, and ends with the server.
            stack.valkey.kill()
        stack.make_whole()
        operation, of_batch = stack.finished(batch)
        _, of_evaluation = stack.finished(evaluation)
    with stack.resumed("metrics", cursor) as events:
        alert = events.until(metrics_pb2.AlertFired, lambda data: data.alert.rule_id == rule).alert
    published = alerts_published(stack, cursor, rule)
    stack.metrics().DeleteAlertRule(metrics_pb2.DeleteAlertRuleRequest(rule_id=rule))

    assert outcomes(of_evaluation) == LOST_THEN_SUCCEEDED
    assert outcomes(of_batch) == LOST_THEN_SUCCEEDED
    assert response_of(operation, metrics_pb2.IngestSamplesResponse).already_applied
    assert samples.counted(stack, metric) == 2
    assert published == [alert.alert_id]


def above(name, threshold):
    return metrics_pb2.AlertRule(
        rule_id=name,
        metric=name,
        aggregation=metrics_pb2.TIME_AGGREGATION_LAST,
        comparison=metrics_pb2.COMPARISON_ABOVE,
        threshold=threshold,
    )


def committed(database, batch, rule):
    """Whether the batch is recorded as applied and the rule's alert is there."""
    batches = "SELECT count(*) FROM applied_batches WHERE batch_id = ?"
    alerts = "SELECT count(*) FROM alerts WHERE rule_id = ?"
    applied = database.execute(batches, (batch.rpartition("/")[2],)).fetchone()[0]
    return applied and database.execute(alerts, (rule,)).fetchone()[0]


def alerts_published(stack, cursor, rule):
    """The alerts that events after the cursor say have fired for the rule, up to a later evaluation's end."""
    now = datetime.now(UTC)
    with stack.resumed("metrics", cursor) as events:
        events.until(
            events_pb2.OperationChanged,
            lambda change: change.task == TICKING and change.create_time.ToDatetime(tzinfo=UTC) > now,
        )
        found = []
        for event in events.seen:
            data = metrics_pb2.AlertFired()
            if event.data.Unpack(data) and data.alert.rule_id == rule:
                found.append(data.alert.alert_id)
    return found
