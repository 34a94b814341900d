"""What clients see: accepting, describing, waiting, listing, cancelling, deleting."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from chassis.event_log import EventLog
from chassis.operations import Operations, Submission
from chassis.operations_rpc import MAX_WAIT_SECONDS, OperationsServicer, wait_seconds
from chassis.retries import RetryPolicy
from chassis.store_calls import AttemptError, Settlement
from chassis.testing.harness import metadata_of
from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

pytestmark = pytest.mark.anyio

TASK = SimpleNamespace(
    name="test.do", policy=RetryPolicy(), queue_name="test.q", default_priority=ops.PRIORITY_NORMAL, retention=None
)


class Context:
    """Of one RPC: how long the caller waits, and what is sent behind the answer."""

    def __init__(self, remaining=None):
        self.remaining, self.trailing = remaining, ()

    def time_remaining(self):
        return self.remaining

    def set_trailing_metadata(self, metadata):
        self.trailing = metadata


@pytest.fixture
def app():
    return SimpleNamespace(service="test", queue_bound=1000)


@pytest.fixture
async def operations(async_store, app):
    return Operations(async_store, app)


@pytest.fixture
async def servicer(operations, async_store):
    log = EventLog(async_store)
    following = asyncio.create_task(log.run())
    yield OperationsServicer(operations, log)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


def a_request(title="t", **options):
    return reports_pb2.RenderReportRequest(title=title, **options)


def id_of(operation):
    return operation.name.rpartition("/")[2]


def packed(message):
    result = AnyMessage()
    result.Pack(message)
    return result.SerializeToString()


async def test_an_accepted_operation_is_answered_as_the_store_has_it(operations):
    """The answer of the acceptance and a Get right after it say the same."""
    request = a_request(request_id="r")
    request.options.labels["team"] = "sre"
    request.options.schedule_time.GetCurrentTime()
    request.options.schedule_time.seconds += 60
    request.options.expire_time.GetCurrentTime()
    request.options.expire_time.seconds += 600

    accepted = await operations.accept(TASK, request)
    got = await operations.get(id_of(accepted))

    answered, stored = metadata_of(accepted), metadata_of(got)
    assert abs(answered.create_time.ToMicroseconds() - stored.create_time.ToMicroseconds()) < 10**6
    answered.ClearField("create_time")
    stored.ClearField("create_time")
    assert answered == stored
    assert (answered.state, answered.request_id) == (ops.OPERATION_STATE_SCHEDULED, "r")
    assert (accepted.name, accepted.done) == (got.name, got.done) == (got.name, False)


async def test_a_repeated_request_is_answered_with_the_first_operation(operations, work):
    """In its present state, however far it is; another payload is REQUEST_ID_REUSED and names it."""
    first = await operations.accept(TASK, a_request(request_id="r"))
    work.settle(id_of(first), "SUCCEEDED", result=packed(StringValue(value="done")))

    second = await operations.accept(TASK, a_request(request_id="r"))
    with pytest.raises(InvalidArgument) as refused:
        await operations.accept(TASK, a_request(title="other", request_id="r"))

    assert (second.name, second.done) == (first.name, True)
    assert (refused.value.reason, refused.value.metadata) == ("REQUEST_ID_REUSED", {"operation": first.name})


async def test_a_full_queue_refuses_with_a_time_to_come_back(operations, app, work):
    """RESOURCE_EXHAUSTED, QUEUE_FULL, RetryInfo; nothing is dropped."""
    operations = Operations(operations.store, SimpleNamespace(service="test", queue_bound=2))
    work.accept(2)

    with pytest.raises(ResourceExhausted) as refused:
        await operations.accept(TASK, a_request())

    assert (refused.value.reason, refused.value.metadata) == ("QUEUE_FULL", {"queue": "test.q"})
    assert refused.value.retry_after


async def test_acceptances_that_come_together_are_each_their_own(operations):
    """Batching changes nothing: same, reused and new side by side."""
    requests = [a_request(title=f"t{n % 2}", request_id=f"r{n // 3}") for n in range(30)]

    answers = await asyncio.gather(*(operations.accept(TASK, request) for request in requests), return_exceptions=True)

    by_request_id = {}
    for request, answer in zip(requests, answers, strict=True):
        by_request_id.setdefault(request.request_id, []).append(answer)
    for of_one in by_request_id.values():
        refused = [answer for answer in of_one if isinstance(answer, InvalidArgument)]
        assert len({answer.name for answer in of_one if answer not in refused}) == 1
        assert len(refused) in {1, 2}


async def test_a_batch_answers_each_item_by_itself(operations):
    """An operation or a Status for each, in order; bad items store nothing."""
    bad = a_request()
    bad.options.max_attempts = 1000
    items = [
        Submission(TASK, a_request(request_id="r")),
        Submission(TASK, bad),
        Submission(TASK, a_request(request_id="r")),
        Submission(TASK, a_request(title="x", request_id="r")),
        Submission(TASK, a_request(), parent="operations/test/unknown"),
    ]

    first, invalid, same, reused, orphan = await operations.accept_many(items, method="test")

    assert first.name == same.name
    assert [status.code for status in (invalid, reused, orphan)] == [3, 3, 1]
    assert all(isinstance(status, status_pb2.Status) for status in (invalid, reused, orphan))
    assert await operations.accept_many([]) == []


async def test_success_is_a_response(operations, work):
    """done, with the task's answer; no error is left of an attempt before."""
    (operation_id,) = work.accept()
    work.settle(operation_id, "RETRIED")
    work.settle(operation_id, "SUCCEEDED", result=packed(StringValue(value="done")))

    operation = await operations.get(operation_id)

    response = StringValue()
    operation.response.Unpack(response)
    metadata = metadata_of(operation)
    assert (operation.done, response.value, metadata.state) == (True, "done", ops.OPERATION_STATE_SUCCEEDED)
    assert not metadata.HasField("last_error")
    assert [(a.number, a.outcome, a.error.message) for a in metadata.attempts] == [
        (1, ops.ATTEMPT_OUTCOME_RETRIED, "it broke"),
        (2, ops.ATTEMPT_OUTCOME_SUCCEEDED, ""),
    ]
    assert metadata.start_time.ToMicroseconds() <= metadata.end_time.ToMicroseconds()
    assert [len(a.span_id) for a in metadata.attempts] == [16, 16]


async def test_failure_is_the_tasks_status(operations, work, store):
    """With its details, as the attempt wrote them."""
    (operation_id,) = work.accept()
    status = status_pb2.Status(code=9, message="no")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NEVER", domain="test"))
    error = AttemptError(9, "no", "NEVER", status.SerializeToString())
    store.run(
        store_calls.settle(
            [Settlement(operation_id, work.begin(operation_id), ops.ATTEMPT_OUTCOME_FAILED, error=error)]
        )
    )

    operation = await operations.get(operation_id)

    assert operation.error == metadata_of(operation).last_error == status


@pytest.mark.parametrize(("end", "code", "reason"), [("cancel", 1, "CANCELLED"), ("expire", 4, "EXPIRED")])
async def test_ends_without_an_attempt_are_statuses_too(operations, work, store, end, code, reason):
    """CANCELLED and DEADLINE_EXCEEDED, with ErrorInfo."""
    (operation_id,) = work.accept()
    if end == "cancel":
        await operations.cancel(operation_id)
    else:
        store.client.hset(store.keys.operation(operation_id), "xt", 1)
        store.run(store_calls.fetch(1, ["test.q"], ["test.do"], session="x"))

    operation = await operations.get(operation_id)

    info = error_details_pb2.ErrorInfo()
    operation.error.details[0].Unpack(info)
    assert (operation.done, operation.error.code, info.reason, info.domain) == (True, code, reason, "test")


async def test_a_brief_description_leaves_payload_and_attempts_out(operations, work):
    """Lists stay small."""
    (operation_id,) = work.accept()
    work.settle(operation_id, "RETRIED")

    metadata = metadata_of(await operations.get(operation_id, brief=True))

    assert not metadata.HasField("request")
    assert not metadata.attempts
    assert metadata.attempt == 1


async def test_what_is_not_there_is_not_found(operations, servicer):
    """Get, wait, cancel and delete alike; a name of another shape is bad input."""
    name = operations_pb2
    for call, request in (
        (servicer.GetOperation, name.GetOperationRequest),
        (servicer.WaitOperation, name.WaitOperationRequest),
        (servicer.CancelOperation, name.CancelOperationRequest),
        (servicer.DeleteOperation, name.DeleteOperationRequest),
    ):
        with pytest.raises(NotFound) as missing:
            await call(request(name="operations/test/none"), Context(1))
        assert missing.value.reason == "OPERATION_NOT_FOUND"
        for odd in ("", "operations/test/", "operations/other/1", "operations/test/a/b", "x"):
            with pytest.raises(InvalidArgument):
                await call(request(name=odd), Context(1))


async def test_a_wait_is_answered_when_the_operation_ends(servicer, work):
    """Not before, and at once."""
    (operation_id,) = work.accept()
    token = work.begin(operation_id)
    request = operations_pb2.WaitOperationRequest(name=f"operations/test/{operation_id}")
    waiting = asyncio.create_task(servicer.WaitOperation(request, Context()))
    assert not (await asyncio.wait([waiting], timeout=0.2))[0]

    work.settle(operation_id, "SUCCEEDED", token=token)

    operation = await asyncio.wait_for(waiting, 5)
    assert operation.done


async def test_a_wait_that_ends_first_answers_with_the_present_state(servicer, work):
    """By its own timeout or within the caller's deadline; never DEADLINE_EXCEEDED for the wait's sake."""
    (operation_id,) = work.accept()
    short = operations_pb2.WaitOperationRequest(name=f"operations/test/{operation_id}", timeout=Duration(nanos=10**7))
    unbounded = operations_pb2.WaitOperationRequest(name=short.name)

    for request, context in ((short, Context()), (unbounded, Context(0.15)), (unbounded, Context(0.01))):
        operation = await asyncio.wait_for(servicer.WaitOperation(request, context), 5)
        assert not operation.done


@pytest.mark.parametrize(
    ("asked", "remaining", "seconds"),
    [
        (None, None, MAX_WAIT_SECONDS),
        (5, None, 5),
        (5, 3, 2.5),
        (None, 3, 2.5),
        (10_000, None, MAX_WAIT_SECONDS),
        (None, 10_000, MAX_WAIT_SECONDS),
        (0, None, 0),
        (-5, None, 0),
        (None, 0.06, 0.05),
        (None, 0, 0),
    ],
)
async def test_how_long_a_wait_may_last(asked, remaining, seconds):
    """The request's timeout, within the caller's deadline less what the answer takes, within ten minutes."""
    request = operations_pb2.WaitOperationRequest(timeout=None if asked is None else Duration(seconds=asked))

    assert wait_seconds(request, remaining) == pytest.approx(seconds)


@pytest.mark.parametrize("asked", [Duration(seconds=2**63 - 1), Duration(seconds=-(2**63))])
async def test_a_timeout_that_is_no_duration_is_named(asked):
    """The client's error, not ours."""
    with pytest.raises(InvalidArgument) as refused:
        wait_seconds(operations_pb2.WaitOperationRequest(timeout=asked), None)
    assert [violation.field for violation in refused.value.violations] == ["timeout"]


async def test_cancelling_twice_is_cancelling_once(servicer, work, operations):
    """Ended operations stay as they are, and that is no error."""
    (operation_id,) = work.accept()
    request = operations_pb2.CancelOperationRequest(name=f"operations/test/{operation_id}")

    await servicer.CancelOperation(request, Context())
    first = await operations.get(operation_id)
    await servicer.CancelOperation(request, Context())

    assert await operations.get(operation_id) == first


async def test_only_what_has_ended_is_deleted(servicer, work, operations):
    """FAILED_PRECONDITION before, NOT_FOUND after."""
    (operation_id,) = work.accept()
    request = operations_pb2.DeleteOperationRequest(name=f"operations/test/{operation_id}")
    with pytest.raises(FailedPrecondition) as refused:
        await servicer.DeleteOperation(request, Context())
    assert refused.value.reason == "OPERATION_NOT_ENDED"

    await operations.cancel(operation_id)
    await servicer.DeleteOperation(request, Context())

    with pytest.raises(NotFound):
        await operations.get(operation_id)


async def test_a_list_is_a_snapshot_with_a_cursor(servicer, work, async_store):
    """Whatever the snapshot does not show comes as events after the cursor."""
    ids = work.accept(3)
    context = Context()

    answer = await servicer.ListOperations(operations_pb2.ListOperationsRequest(page_size=2), context)
    later = work.accept(1)

    assert {id_of(operation) for operation in answer.operations} <= set(ids)
    assert (len(answer.operations), bool(answer.next_page_token)) == (2, True)
    ((key, cursor),) = context.trailing
    assert key == "waybill-cursor"
    entries = await EventLog(async_store).read(cursor)
    assert [entry.operation_id for entry in entries] == later


async def test_the_store_forgets_its_scripts_and_nothing_else(operations, store):
    """A server that was restarted or flushed of scripts is given them again."""
    first = await operations.accept(TASK, a_request())
    store.client.script_flush()

    second = await operations.accept(TASK, a_request())
    store.client.script_flush()

    assert store.run(store_calls.cancel([id_of(first), id_of(second)]))
