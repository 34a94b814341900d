"""What a client does with an operation: repeat, wait, schedule, let it expire, cancel, delete, follow."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.operations.v1 import operations_pb2 as ops

from tests import documents, notices, samples
from tests.receiver import Answer
from tests.refusals import reason_of, refused
from tests.stack import NAMES, response_of, unique, unpacked

INGEST = "metrics.ingest"
LATER = timedelta(hours=1)


@pytest.fixture
def paused(stack):
    """No worker takes anything from metrics.ingest."""
    queues = stack.stub("metrics", admin_pb2_grpc.QueueServiceStub)
    queues.PauseQueue(admin_pb2.PauseQueueRequest(queue=INGEST))
    yield
    queues.ResumeQueue(admin_pb2.ResumeQueueRequest(queue=INGEST))


def ingest(stack, metric="jobs", **options):
    return stack.metrics().IngestSamples(samples.batch(metric, 1.0, options=samples.options(**options)))


def wait(stack, name, seconds):
    request = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=seconds))
    return stack.operations("metrics").WaitOperation(request, timeout=seconds + 10)


def test_a_repeated_request_is_one_operation(stack):
    """Eight at a time through three gateways, and once more after it has succeeded: one name, counted once."""
    metric = unique("repeated")
    request = samples.batch(metric, 1.0, 2.0, request_id=unique("request"))
    stubs = [stack.metrics(through=name) for name in NAMES]

    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda number: stubs[number % 3].IngestSamples(request).name, range(8)))
    (name,) = names
    stack.finished(name)
    again = stack.metrics().IngestSamples(request)

    assert again.name == name
    assert again.done
    assert response_of(again, metrics_pb2.IngestSamplesResponse).applied == 2
    assert [each for each, _ in stack.listed("metrics", f"request_id = {request.request_id}")] == [name]
    assert samples.counted(stack, metric) == 2


def test_a_request_id_is_not_for_another_payload(stack):
    """REQUEST_ID_REUSED names the operation that has it; the same id is free in another method."""
    first = samples.batch("jobs", 1.0, request_id=unique("request"))
    other = samples.batch("jobs", 2.0, request_id=first.request_id)
    name = stack.metrics().IngestSamples(first).name

    refusal = refused(stack.metrics().IngestSamples, other)

    assert refusal.brief == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert refusal.metadata == {"operation": name}
    assert list(refusal.violations) == ["request_id"]
    notices.ensure_template(stack)
    elsewhere = notices.request(notices.email(), request_id=first.request_id)
    assert stack.notify().SendNotification(elsewhere).name != name


def test_a_wait_ends_with_its_timeout_or_with_the_operation(stack, paused):
    """The operation as it stands after the timeout; its result as soon as it has one."""
    name = ingest(stack).name

    waiting = wait(stack, name, 1)
    queues = stack.stub("metrics", admin_pb2_grpc.QueueServiceStub)
    queues.ResumeQueue(admin_pb2.ResumeQueueRequest(queue=INGEST))
    ended = wait(stack, name, 30)

    assert (waiting.name, waiting.done) == (name, False)
    assert ended.done
    assert response_of(ended, metrics_pb2.IngestSamplesResponse).applied == 1


def test_a_deadline_ends_a_wait_with_an_answer(stack, paused):
    """A caller with a deadline and no timeout is told how the operation stands, in time."""
    name = ingest(stack).name
    request = operations_pb2.WaitOperationRequest(name=name)

    assert not stack.operations("metrics").WaitOperation(request, timeout=1).done


def test_a_scheduled_operation_begins_when_it_is_due(stack):
    """SCHEDULED until then, and no attempt before."""
    accepted = ingest(stack, due=timedelta(seconds=2))
    before = unpacked(accepted.metadata, ops.OperationMetadata)
    _, after = stack.finished(accepted)

    assert before.state == ops.OPERATION_STATE_SCHEDULED
    assert after.state == ops.OPERATION_STATE_SUCCEEDED
    assert after.start_time.ToDatetime() >= before.schedule_time.ToDatetime()
    assert after.attempt == 1


def test_options_are_kept_with_the_operation(stack):
    """Priority, labels and the number of attempts; operations are found by their labels."""
    team = unique("team")
    name = ingest(stack, priority=ops.PRIORITY_HIGH, labels={"team": team}, max_attempts=3).name
    _, kept = stack.finished(name)

    assert (kept.priority, kept.labels["team"], kept.max_attempts) == (ops.PRIORITY_HIGH, team, 3)
    assert [each for each, _ in stack.listed("metrics", f"labels.team = {team} AND state = SUCCEEDED")] == [name]


def test_a_queued_operation_expires(stack, paused):
    """No attempt begins after expire_time; to clients that is DEADLINE_EXCEEDED."""
    operation, kept = stack.finished(ingest(stack, expires=timedelta(seconds=1)))

    assert kept.state == ops.OPERATION_STATE_EXPIRED
    assert (operation.error.code, kept.attempt) == (code_pb2.DEADLINE_EXCEEDED, 0)
    assert not kept.HasField("start_time")


@pytest.mark.own_outage
def test_an_operation_between_two_attempts_expires(stack):
    """RETRYING counts as waiting: the next attempt would begin too late."""
    stack.process("metrics", "gateway").kill()
    options = samples.options(expires=timedelta(seconds=4), max_attempts=100)
    request = documents.with_a_chart("jobs", options=options)
    operation, kept = stack.finished(stack.reports().RenderReport(request))

    assert kept.state == ops.OPERATION_STATE_EXPIRED
    assert operation.error.code == code_pb2.DEADLINE_EXCEEDED
    assert kept.attempt >= 1
    assert {each.outcome for each in kept.attempts} == {ops.ATTEMPT_OUTCOME_RETRIED}


@pytest.mark.parametrize("waits_for", ["its due time", "a worker"])
def test_a_waiting_operation_is_cancelled_at_once(stack, paused, waits_for):
    """SCHEDULED or QUEUED: no attempt begins any more."""
    name = ingest(stack, due=LATER if waits_for == "its due time" else None).name

    stack.cancel(name)
    operation, kept = stack.get(name)

    assert (kept.state, kept.attempt) == (ops.OPERATION_STATE_CANCELLED, 0)
    assert operation.done
    assert (operation.error.code, reason_of(operation.error)) == (code_pb2.CANCELLED, "CANCELLED")


@pytest.mark.parametrize(
    ("answer", "state"),
    [(Answer(503), ops.OPERATION_STATE_CANCELLED), (Answer(200), ops.OPERATION_STATE_SUCCEEDED)],
    ids=["the attempt fails", "the attempt succeeds"],
)
def test_a_running_operation_is_told_of_its_cancellation(stack, receiver, answer, state):
    """The attempt is not followed by another; a result that settles first wins."""
    notices.ensure_template(stack)
    endpoint = receiver.endpoint().answers(answer).hold()
    _, (delivery,) = notices.send(stack, endpoint.channel)
    endpoint.wait_for(1)

    stack.cancel(delivery)
    _, asked = stack.get(delivery)
    endpoint.let_go()
    operation, kept = stack.finished(delivery)

    assert (asked.state, asked.cancel_requested) == (ops.OPERATION_STATE_RUNNING, True)
    assert (kept.state, kept.attempt) == (state, 1)
    assert len(endpoint.received) == 1
    assert operation.HasField("error") == (state == ops.OPERATION_STATE_CANCELLED)


def test_a_final_state_stays(stack):
    """Cancelling what has ended changes nothing and is no error."""
    ended, _ = stack.finished(ingest(stack))

    stack.cancel(ended.name)

    assert stack.get(ended.name)[0] == ended


def test_only_what_has_ended_is_deleted(stack, paused):
    """A live operation must be cancelled first; what is deleted is unknown."""
    name = ingest(stack).name
    delete = stack.operations("metrics").DeleteOperation
    request = operations_pb2.DeleteOperationRequest(name=name)

    assert refused(delete, request).brief == ("FAILED_PRECONDITION", "OPERATION_NOT_ENDED")
    stack.cancel(name)
    delete(request)

    asked = operations_pb2.GetOperationRequest(name=name)
    assert refused(stack.operations("metrics").GetOperation, asked).brief == ("NOT_FOUND", "OPERATION_NOT_FOUND")


def test_every_change_of_an_operation_is_an_event(stack):
    """Accepted, begun, settled: in order, without a gap or a repeat, also from a cursor on another gateway."""
    with stack.follow("metrics", "waybill.metrics.operation.*") as changes:
        begin = changes.cursor
        name = ingest(stack).name
        stack.finished(name)
        verbs = verbs_of(changes, name, 3)
    with stack.resumed("metrics", begin, through="reports") as again:
        repeated = verbs_of(again, name, 3)

    assert verbs == ["accepted", "began", "succeeded"]
    assert repeated == verbs


def verbs_of(changes, name, count):
    """The verbs of the first changes of one operation."""
    found = []
    while len(found) < count:
        event, _ = changes.event(events_pb2.OperationChanged, lambda change: change.operation == name)
        found.append(event.type.rpartition(".")[2])
    return found
