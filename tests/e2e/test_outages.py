"""What clients see while something is down, and what is left when it is back: everything, once."""

import signal
import time

import grpc
import pytest
from google.longrunning import operations_pb2
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from tests import documents, notices, samples
from tests.receiver import Answer
from tests.refusals import refused
from tests.stack import LEASE_SECONDS, NAMES, RESCUE_SECONDS, signal_group, unique, until

DEADLINE_SECONDS = 3.0
COMPLETED = "waybill.reports.report.completed"
PROGRESSED = "waybill.reports.operation.progressed"


def long_report(title):
    """A report that takes a while to set."""
    request = documents.of_text(title)
    table = request.sections.add().table
    table.columns.append("number")
    for number in range(1_000):
        table.rows.add().append(number)
    return request


def ingestion():
    return samples.batch("jobs", 1.0)


def test_a_stopped_valkey_is_unavailable_and_comes_back_by_itself(stack):
    """UNAVAILABLE with RetryInfo within the deadline, health NOT_SERVING, then everything again."""
    accepted = stack.metrics().IngestSamples(ingestion())
    stack.finished(accepted)
    stack.valkey.kill()

    began = time.monotonic()
    refusal = refused(stack.metrics().IngestSamples, ingestion(), timeout=DEADLINE_SECONDS)
    took = time.monotonic() - began
    stack.wait_until_not_serving("metrics")
    stack.valkey.start()
    stack.wait_until_serving("metrics")

    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert refusal.retry_after is not None
    assert took < DEADLINE_SECONDS
    assert stack.get(accepted.name)[1].state == ops.OPERATION_STATE_SUCCEEDED
    _, kept = stack.finished(stack.metrics().IngestSamples(ingestion()))
    assert kept.state == ops.OPERATION_STATE_SUCCEEDED


@pytest.mark.parametrize("service", NAMES)
def test_a_frozen_valkey_is_answered_for_within_the_deadline(stack, service):
    """It takes connections and says nothing; a gateway does not hang with it."""
    request = operations_pb2.GetOperationRequest(name=f"operations/{service}/01890000-0000-7000-8000-000000000000")

    with stack.frozen_valkey():
        refusal = refused(stack.operations(service).GetOperation, request, timeout=DEADLINE_SECONDS)

    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert refusal.retry_after is not None


def test_a_gateway_that_is_down_is_unavailable_through_the_others(stack):
    """The forwarding gateway says who is missing, and that it is worth trying again."""
    stack.process("metrics", "gateway").kill()

    refusal = refused(stack.metrics(through="notify").IngestSamples, ingestion())

    assert refusal.brief == ("UNAVAILABLE", "OWNER_UNAVAILABLE")
    assert refusal.retry_after is not None


def test_what_was_accepted_survives_the_death_of_everything(stack):
    """Valkey, gateways and workers are killed with kill -9; the operation succeeds when they are back."""
    signal_group(stack.process("metrics", "worker"), signal.SIGSTOP)
    metric = unique("survivor")
    name = stack.metrics().IngestSamples(samples.batch(metric, 1.0)).name

    for role in ("gateway", "worker", "scheduler"):
        stack.process("metrics", role).kill()
    stack.valkey.kill()
    stack.make_whole()

    _, kept = stack.finished(name)
    assert kept.state == ops.OPERATION_STATE_SUCCEEDED
    assert samples.counted(stack, metric) == 1


def test_a_killed_worker_is_followed_by_the_next_attempt(stack, receiver):
    """Kill -9 in the middle of attempt 1: attempt 2 begins within the lease and five seconds, and succeeds."""
    notices.ensure_template(stack)
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
    lost, second = kept.attempts
    assert (lost.outcome, second.outcome) == (ops.ATTEMPT_OUTCOME_LOST, ops.ATTEMPT_OUTCOME_SUCCEEDED)
    assert second.begin_time.ToNanoseconds() / 1e9 - killed_at < LEASE_SECONDS + RESCUE_SECONDS
    assert lost.worker != second.worker
    assert {each.headers["webhook-id"] for each in endpoint.received} == {endpoint.received[0].headers["webhook-id"]}


def test_a_worker_killed_between_commit_and_settle_applies_nothing_twice(stack):
    """The row is there, the settle is not: attempt 2 finds the work done, and its event is published once."""
    title = unique("report")
    worker = stack.process("reports", "worker")

    with stack.follow("reports", COMPLETED) as completed, stack.follow("reports", PROGRESSED) as progress:
        with stack.database("reports") as database:
            name = stack.reports().RenderReport(long_report(title)).name
            progress.until(events_pb2.OperationChanged, lambda each: each.progress.message == "typesetting")
            database.execute("BEGIN IMMEDIATE")
            progress.until(events_pb2.OperationChanged, lambda each: each.progress.message == "saving")
            with stack.frozen_valkey():
                database.execute("COMMIT")
                until(lambda: _stored(database, name), "the report's row")
                worker.kill()
        stack.make_whole()
        _, kept = stack.finished(name)
        data = completed.until(reports_pb2.ReportCompleted, lambda each: each.report.title == title)
        after = stack.reports().RenderReport(documents.of_text(unique("after"))).name
        completed.until(reports_pb2.ReportCompleted, lambda each: each.report.operation == after)

    lost, second = kept.attempts
    assert (lost.outcome, second.outcome) == (ops.ATTEMPT_OUTCOME_LOST, ops.ATTEMPT_OUTCOME_SUCCEEDED)
    assert data.report.operation == name
    assert [each.report.title for each in _completions(completed)].count(title) == 1
    with stack.database("reports") as database:
        assert _stored(database, name) == 1


def test_a_retried_delivery_is_one_effect_with_one_id(stack, receiver):
    """503 with Retry-After, a broken answer, then 200: three requests, one webhook-id, one delivery on record."""
    notices.ensure_template(stack)
    endpoint = receiver.endpoint().answers(Answer(503, {"retry-after": "1"}), Answer(500), Answer())
    _, (delivery,) = notices.send(stack, endpoint.channel)

    _, kept = stack.finished(delivery)

    assert (kept.state, kept.attempt) == (ops.OPERATION_STATE_SUCCEEDED, 3)
    assert len({each.headers["webhook-id"] for each in endpoint.received}) == 1
    first, second = kept.attempts[:2]
    assert second.begin_time.ToNanoseconds() - first.end_time.ToNanoseconds() >= 0.99e9


def _stored(database, name):
    report_id = name.rpartition("/")[2]
    return database.execute("SELECT count(*) FROM reports WHERE report_id = ?", (report_id,)).fetchone()[0]


def _completions(followed):
    found = []
    for event in followed.seen:
        data = reports_pb2.ReportCompleted()
        assert event.data.Unpack(data)
        found.append(data)
    return found
