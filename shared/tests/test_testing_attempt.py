"""The attempt that unit tests of tasks are given: it looks like the engine's, and records."""

import inspect
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from chassis.attempts import Attempt, FencedOff
from chassis.errors import Cancelled, DeadlineExceeded, InvalidArgument, PermanentError
from chassis.retries import RetryPolicy
from chassis.telemetry import SpanContext
from chassis.testing import attempt
from google.protobuf.wrappers_pb2 import StringValue
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def a_task(name="test.load_crate"):
    return SimpleNamespace(
        name=name,
        policy=RetryPolicy(),
        queue_name="test.default",
        default_priority=ops.PRIORITY_NORMAL,
        retention=None,
    )


def engine_attempt():
    return Attempt(
        app=SimpleNamespace(service="test", store=None),
        record=store_pb2.OperationRecord(id="1"),
        number=1,
        max_attempts=1,
        token="t",
        span=SpanContext.new_root(),
        timeout=timedelta(seconds=1),
    )


def test_it_has_the_public_surface_of_the_engines_attempt():
    """Every public name of Attempt, with the same signature; whatever asks the store is replaced."""
    recorded, engine = attempt(), engine_attempt()
    public = {name for name in dir(engine) if not name.startswith("_")}
    methods = {name for name in public if inspect.ismethod(getattr(engine, name))}

    assert {name for name in dir(recorded) if not name.startswith("_")} - public == {"accepted", "cancel", "progressed"}
    assert public <= set(dir(recorded))
    for name in methods:
        assert inspect.signature(getattr(recorded, name)) == inspect.signature(getattr(engine, name)), name
    assert methods & vars(type(recorded)).keys() == methods - {"stop"}


def test_every_fact_can_be_given():
    """What a task may read of its attempt is what the test said."""
    deadline = datetime.now(UTC) + timedelta(hours=1)
    made = attempt(
        service="depot",
        operation_id="id-1",
        effect_id="id-0",
        number=2,
        max_attempts=3,
        deadline=deadline,
        traceparent=TRACEPARENT,
        labels={"team": "sre"},
        parent="operations/depot/p",
        request_id="r-1",
    )

    assert (made.operation, made.operation_id, made.effect_id) == ("operations/depot/id-1", "id-1", "id-0")
    assert (made.number, made.max_attempts, made.deadline) == (2, 3, deadline)
    assert made.traceparent == TRACEPARENT
    assert (made.labels, made.parent, made.request_id) == ({"team": "sre"}, "operations/depot/p", "r-1")


def test_without_facts_it_is_a_first_attempt_of_a_new_operation():
    """Effects are keyed by the operation; two attempts made so are two operations."""
    made = attempt()

    assert made.number == 1
    assert made.effect_id == made.operation_id
    assert made.operation_id != attempt().operation_id
    assert made.deadline > datetime.now(UTC)
    assert SpanContext.parse(made.traceparent)


def test_reports_are_kept_in_order():
    """Percentages are held to 0 to 100, as the engine does."""
    made = attempt()

    made.progress(10, "reading")
    made.progress(10, "reading")
    made.progress(250)

    assert made.progressed == [(10, "reading"), (10, "reading"), (100, "")]


@pytest.mark.parametrize("call", [lambda a: a.check(), lambda a: a.progress(50)])
def test_a_cancelled_attempt_says_so_at_the_next_call(call):
    """Cancelled is raised by check and by progress, from the cancellation on."""
    made = attempt()
    call(made)

    made.cancel()

    with pytest.raises(Cancelled):
        call(made)
    with pytest.raises(Cancelled):
        call(attempt(cancelled=True))


def test_an_attempt_past_its_deadline_and_one_fenced_off_say_so():
    """As the engine's attempt does."""
    with pytest.raises(DeadlineExceeded):
        attempt(deadline=datetime.now(UTC) - timedelta(seconds=1)).check()
    fenced = attempt()
    fenced.stop(FencedOff())
    with pytest.raises(FencedOff):
        fenced.check()


def test_children_are_kept_once_per_key():
    """The name is stable per key and over attempts; another key is another child."""
    task, crate = a_task(), StringValue(value="crate")
    first, second = attempt(operation_id="id-1"), attempt(operation_id="id-1", number=2)

    name = first.accept(task, crate, key="a")
    assert first.accept(task, crate, key="a") == name
    other = first.accept(task, crate, key="b")

    assert name != other
    assert first.accepted == [(task, crate, "a"), (task, crate, "b")]
    assert second.accept(task, crate, key="a") == name
    assert name.startswith("operations/test/")


def test_one_key_for_two_children_is_refused():
    """Another payload or another task under the same key is the mistake that the store would refuse."""
    made = attempt()
    made.accept(a_task(), StringValue(value="crate"), key="a")

    for task, request in ((a_task(), StringValue(value="barrel")), (a_task("test.weigh"), StringValue(value="crate"))):
        with pytest.raises(PermanentError) as raised:
            made.accept(task, request, key="a")
        assert raised.value.reason == "CHILD_KEY_REUSED"


def test_a_child_with_bad_labels_is_refused():
    """Submit options of children are checked here too."""
    with pytest.raises(InvalidArgument):
        attempt().accept(a_task(), StringValue(), key="a", labels={"Bad Key": "x"})
