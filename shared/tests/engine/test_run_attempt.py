"""Begin, run, decide, settle: every end of an attempt, against the in-memory store."""

from datetime import timedelta
from types import SimpleNamespace

import grpc
import pytest
from chassis import errors, store_calls, telemetry
from chassis.attempts import DrainRequested, FanOut, FencedOff
from chassis.deliveries import WorkItem
from chassis.errors import PermanentError, TransientError
from chassis.retries import RetryPolicy
from chassis.store_calls import SharedBegins
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from google.rpc import status_pb2
from redis.exceptions import ConnectionError as RedisConnectionError
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from shared.tests.engine.attempt_runner import HELLO, App, Runner


@pytest.fixture
def app():
    return App()


@pytest.fixture
def runner(app):
    return Runner(app).accept()


def raising(error):
    def do(attempt, request):
        raise error

    return do


class RpcFailure(grpc.RpcError):
    def __init__(self, code):
        super().__init__(code.name)
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return f"it said {self._code.name}"

    def trailing_metadata(self):
        return ()


def test_a_task_is_given_its_payload_and_its_answer_is_the_result(runner):
    """And the attempt says who and where it is."""
    seen = {}

    def do(attempt, request):
        seen.update(request=request, number=attempt.number, operation=attempt.operation, effect=attempt.effect_id)
        return StringValue(value="done")

    after = runner.run(do)

    assert (after.state, runner.result(StringValue)) == ("SUCCEEDED", StringValue(value="done"))
    assert seen == {"request": HELLO, "number": 1, "operation": f"operations/test/{runner.id}", "effect": runner.id}


def test_a_task_without_an_answer_succeeds_with_empty(runner):
    """google.protobuf.Empty, as the convention has it."""
    assert runner.run(lambda attempt, request: None).state == "SUCCEEDED"
    assert runner.result(Empty) == Empty()


def test_the_attempts_span_is_current_while_the_task_runs(runner):
    """Spans and calls of the task are its children; nothing is left behind."""
    seen = []
    runner.run(lambda attempt, request: seen.append((telemetry.current_span().traceparent, attempt.traceparent)))

    ((current, own),) = seen
    assert current == own
    assert telemetry.current_span() is None


def test_a_fan_out_waits_for_the_children_that_the_task_accepted(runner, app):
    """RUNNING until they have ended, then the task's response."""
    child_task = SimpleNamespace(
        name="test.child", policy=RetryPolicy(), queue_name="children", default_priority=2, retention=None
    )

    def do(attempt, request):
        names = [attempt.accept(child_task, HELLO, key=key) for key in ("a", "a", "b")]
        assert names[0] == names[1] != names[2]
        return FanOut(StringValue(value="all"), children=2)

    assert runner.run(do).state == "RUNNING"
    children = [one for one in app.store.operations.values() if one.task == "test.child"]
    assert len(children) == 2
    app.store.run(store_calls.cancel([child.id for child in children]))
    assert runner.bench.observe(runner.id).state == "SUCCEEDED"
    assert runner.result(StringValue).value == "all"


def test_children_know_the_root_of_the_whole_fan_out(runner, app):
    """Grandchildren too."""
    child_task = SimpleNamespace(
        name="test.do", policy=RetryPolicy(), queue_name="q", default_priority=2, retention=None
    )

    def fans_out(attempt, request):
        runner.id = attempt.accept(child_task, HELLO, key="a").rpartition("/")[2]
        return FanOut(HELLO, children=1)

    root = runner.id
    runner.run(fans_out)
    runner.run(fans_out)

    records = [store_pb2.OperationRecord.FromString(one.record) for one in app.store.operations.values()]
    assert len(records) == 3
    assert {record.root for record in records} == {root}


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (TransientError("busy", reason="BUSY"), grpc.StatusCode.UNAVAILABLE, "BUSY"),
        (errors.Unavailable("away", reason="AWAY"), grpc.StatusCode.UNAVAILABLE, "AWAY"),
        (errors.ResourceExhausted("full", reason="FULL"), grpc.StatusCode.RESOURCE_EXHAUSTED, "FULL"),
        (RpcFailure(grpc.StatusCode.UNAVAILABLE), grpc.StatusCode.UNAVAILABLE, "RPC_FAILED"),
        (RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED), grpc.StatusCode.DEADLINE_EXCEEDED, "RPC_FAILED"),
        (ValueError("odd"), grpc.StatusCode.UNKNOWN, "UNEXPECTED_ERROR"),
        (RedisConnectionError("gone"), grpc.StatusCode.UNKNOWN, "UNEXPECTED_ERROR"),
        (errors.DeadlineExceeded("late", reason="LATE"), grpc.StatusCode.DEADLINE_EXCEEDED, "LATE"),
    ],
)
def test_an_error_that_may_pass_is_retried(runner, error, code, reason):
    """RETRYING, with the error on record, within the policy's bounds."""
    after = runner.run(raising(error))

    assert (after.state, after.error[0], after.error[1]) == ("RETRYING", code.value[0], reason)
    assert after.log == ((1, "RETRIED", reason),)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (PermanentError("no", reason="NEVER"), grpc.StatusCode.FAILED_PRECONDITION, "NEVER"),
        (errors.NotFound("gone", reason="GONE"), grpc.StatusCode.NOT_FOUND, "GONE"),
        (errors.InvalidArgument("bad", reason="BAD"), grpc.StatusCode.INVALID_ARGUMENT, "BAD"),
        (errors.Cancelled("elsewhere", reason="ELSEWHERE"), grpc.StatusCode.CANCELLED, "ELSEWHERE"),
        (RpcFailure(grpc.StatusCode.NOT_FOUND), grpc.StatusCode.NOT_FOUND, "RPC_FAILED"),
    ],
)
def test_an_error_that_will_not_pass_ends_the_operation(runner, error, code, reason):
    """FAILED at the first attempt, however many are left."""
    after = runner.run(raising(error))

    assert (after.state, after.error[0], after.error[1]) == ("FAILED", code.value[0], reason)


def test_the_last_attempt_ends_the_operation(app):
    """A transient error with no attempts left is the operation's error."""
    runner = Runner(app).accept(max_attempts=1)

    assert runner.run(raising(TransientError("busy", reason="BUSY"))).state == "FAILED"


def test_what_the_other_side_asked_for_is_waited(runner, app):
    """Retry-After and RetryInfo are the shortest wait."""
    after = runner.run(raising(TransientError("busy", retry_after=timedelta(minutes=10))))

    assert after.due_us >= app.store.now_us + timedelta(minutes=10) // timedelta(microseconds=1)


def test_a_payload_of_another_type_is_no_attempts_fault(runner):
    """FAILED at once: another attempt would not read it either."""
    after = runner.run(lambda attempt, request: None, request_type=Struct)

    assert (after.state, after.error[1]) == ("FAILED", "PAYLOAD_TYPE")


def test_a_result_above_the_limit_is_refused(runner):
    """The error names size and limit; larger results are artifacts."""
    after = runner.run(lambda attempt, request: BytesValue(value=b"x" * 200))

    assert (after.state, after.error[1]) == ("FAILED", "RESULT_TOO_LARGE")
    assert "100" in after.error[2]


def test_what_is_owed_is_published_before_the_settle(runner, app):
    """Whoever sees the end of the operation finds its events."""
    runner.run(lambda attempt, request: None)

    assert app.published == [runner.id]


def test_an_attempt_whose_task_failed_publishes_nothing_itself(runner, app):
    """What it owes is the next attempt's, or the relay's."""
    runner.run(raising(PermanentError("no")))

    assert app.published == []


def test_a_cancelled_attempt_ends_as_cancelled(runner, app):
    """The task hears of it at its next check or report."""

    def do(attempt, request):
        app.store.run(store_calls.cancel([runner.id]))
        attempt.progress(50, "half")
        raise AssertionError("it was told to stop")

    after = runner.run(do)

    assert (after.state, after.error[0]) == ("CANCELLED", 1)


def test_a_success_after_a_cancellation_is_a_success(runner, app):
    """A result that settles first wins."""

    def do(attempt, request):
        app.store.run(store_calls.cancel([runner.id]))
        return HELLO

    assert runner.run(do).state == "SUCCEEDED"


@pytest.mark.parametrize("method", ["check", "progress"])
def test_an_attempt_past_its_deadline_is_told_so(runner, method):
    """By check and by progress; DEADLINE_EXCEEDED, worth another attempt."""

    def do(attempt, request):
        for percent in range(5):
            attempt.check() if method == "check" else attempt.progress(percent)
        raise AssertionError("it was told to stop")

    after = runner.run(do, timeout=timedelta(0))

    assert (after.state, after.error[1]) == ("RETRYING", "ATTEMPT_TIMEOUT")


def test_an_attempt_that_was_taken_over_stops_and_changes_nothing(runner, app):
    """FencedOff at its next word with the store; its settle is refused."""
    stopped = []

    def do(attempt, request):
        app.store.run(store_calls.release([(runner.id, item.delivery)], lost=True))
        try:
            attempt.progress(10)
        except FencedOff:
            stopped.append(True)
            raise

    item = runner.fetch()
    after = runner.run(do, item=item)

    assert stopped
    assert after.state == "QUEUED"
    assert after.log == ((1, "LOST", "WORKER_LOST"),)


def test_an_attempt_that_is_given_back_does_not_count(runner):
    """A drain returns it to its place."""
    after = runner.run(raising(DrainRequested()))

    assert (after.state, after.attempts, after.returns) == ("QUEUED", 0, 1)


def test_a_delivery_that_is_gone_runs_nothing(runner, app):
    """Cancelled, taken over, delivered twice: the task is not called."""
    item = runner.fetch()
    app.store.run(store_calls.cancel([runner.id]))
    called = []

    runner.run(lambda attempt, request: called.append(request), item=item)

    assert called == []


def test_a_store_that_is_away_at_begin_runs_nothing(runner, app):
    """Not for as long as a lease: it runs out, and the delivery comes again; no attempt is counted."""
    called = []
    app.lease = timedelta(milliseconds=10)
    app.store.unreachable["begin"] = 1_000

    after = runner.run(lambda attempt, request: called.append(request))

    assert (called, after.attempts) == ([], 0)


def test_a_begin_whose_answer_is_lost_is_repeated(runner, app):
    """It had counted: the attempt runs as the first, instead of being lost unrun."""
    app.store.deaf["begin"] = 2

    after = runner.run(lambda attempt, request: HELLO)

    assert (after.state, after.attempts) == ("SUCCEEDED", 1)
    assert app.store.called.count("begin") == 3


def test_an_attempt_that_began_with_its_fetch_begins_no_second_time(runner, app):
    """It runs as the attempt that the store has counted, with the token and the span that the store gave it."""
    begins = SharedBegins("w", "seed", timedelta(milliseconds=5), {"test.do": timedelta(milliseconds=1)})
    fetched = app.store.run(store_calls.fetch(1, ["q"], ["test.do"], session="f", begins=begins))
    seen = []

    after = runner.run(
        lambda attempt, request: seen.append((attempt.number, attempt.token, attempt.span.span_id)),
        item=WorkItem.of(fetched.deliveries[0]),
    )

    begun = fetched.deliveries[0].begun
    assert seen == [(1, begun.token, begun.span_id)]
    assert (after.state, after.attempts, app.store.called.count("begin")) == ("SUCCEEDED", 1, 0)


def test_a_task_that_wants_to_exit_has_failed(runner):
    """It ends its attempt, not the worker."""
    assert runner.run(raising(SystemExit(3)), policy=RetryPolicy(max_attempts=1)).state == "RETRYING"


def test_a_store_that_is_away_stops_no_task(runner, app):
    """A report that cannot be sent is not worth the work that was done."""
    app.store.unreachable["progress"] = 2

    def do(attempt, request):
        attempt.progress(10)
        attempt.progress(20)
        attempt.progress(30)

    after = runner.run(do)

    assert (after.state, after.progress) == ("SUCCEEDED", (30, ""))


def test_reports_that_say_nothing_new_are_not_sent(runner, app):
    """Repeats, and a message that changes many times at one percentage."""

    def do(attempt, request):
        for _ in range(50):
            attempt.progress(10, "same")
        for number in range(50):
            attempt.progress(20, f"message {number}")

    runner.run(do)

    assert 2 <= app.store.called.count("progress") <= 4


def test_the_status_of_an_error_is_kept_whole(runner, app):
    """Rich details reach the client as the task's error had them."""
    captured = []
    run = app.store.run
    app.store.run = lambda call: (captured.append(call), run(call))[1]

    runner.run(raising(errors.NotFound("gone", reason="GONE", metadata={"report_id": "r1"})))

    (settle,) = [call for call in captured if call.script == "settle"]
    status = status_pb2.Status.FromString(settle.arguments[-1])
    assert (status.code, status.message) == (5, "gone")
    assert status.details[0].type_url.endswith("google.rpc.ErrorInfo")
    assert ops.ATTEMPT_OUTCOME_FAILED in settle.arguments
