"""A service's app: what it refuses at import, and what it knows of its tasks."""

import pickle
from datetime import timedelta

import pytest
from chassis.attempts import Attempt, FanOut
from chassis.retries import RetryPolicy
from chassis.testing import attempt
from chassis.worker import QueueSpec, ServiceApp, version_of
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue
from redis.exceptions import ConnectionError as RedisConnectionError
from sample_service.app import app as sample_app
from waybill.operations.v1 import operations_pb2 as ops

QUEUES = [
    QueueSpec("test.bulk", tasks=["test.bulk_*"], priority=ops.PRIORITY_LOW),
    QueueSpec("test.default", tasks=["test.*"]),
]


@pytest.fixture
def app():
    return ServiceApp("test", queues=QUEUES, module="test_service.app")


def registered(app, name="test.do", function=None, **options):
    def do(attempt: Attempt, request: Struct) -> StringValue:
        return StringValue(value=str(attempt.number))

    return app.task(name=name, policy=RetryPolicy(), **options)(function or do)


def test_a_task_knows_its_queue_its_priority_and_its_types(app):
    """The first queue that names it; the queue's priority unless it has its own."""
    bulk, plain = registered(app, "test.bulk_do"), registered(app)
    urgent = registered(app, "test.urgent", priority=ops.PRIORITY_HIGH, timeout=timedelta(seconds=5))

    assert [(task.queue_name, task.default_priority) for task in (bulk, plain, urgent)] == [
        ("test.bulk", ops.PRIORITY_LOW),
        ("test.default", ops.PRIORITY_NORMAL),
        ("test.default", ops.PRIORITY_HIGH),
    ]
    assert (plain.request_type, plain.response_type) == (Struct, StringValue)
    assert (plain.timeout, urgent.timeout) == (timedelta(minutes=5), timedelta(seconds=5))
    assert set(app.operation_tasks) == {"test.bulk_do", "test.do", "test.urgent"}


def test_a_task_is_a_function_for_unit_tests(app):
    """`task.run(attempt, request)` calls it, nothing else."""
    assert registered(app).run(attempt(number=3), Struct()).value == "3"


def test_a_task_without_a_queue_fails_at_import():
    """Not when the first operation waits for ever."""
    app = ServiceApp("test", queues=QUEUES[:1], module="test_service.app")

    with pytest.raises(LookupError, match=r"test\.do has no queue"):
        registered(app)


def test_a_task_of_another_service_is_refused(app):
    """A queue is private (law 2)."""
    with pytest.raises(ValueError, match=r"test\.<verb_noun>"):
        registered(app, "other.do")


def one_argument(attempt): ...
def untyped(attempt, request): ...
def no_message(attempt: Attempt, request: int) -> None: ...
def odd_answer(attempt: Attempt, request: Struct) -> int: ...
def fans_out(attempt: Attempt, request: Struct) -> FanOut[StringValue]: ...
def silent(attempt: Attempt, request: Struct) -> None: ...


@pytest.mark.parametrize("function", [one_argument, untyped, no_message, odd_answer])
def test_a_function_of_another_shape_fails_at_import(app, function):
    """Payload and response are messages, read from the annotations."""
    with pytest.raises(TypeError, match=function.__name__):
        registered(app, function=function)


@pytest.mark.parametrize(("function", "response"), [(fans_out, StringValue), (silent, None)])
def test_a_response_may_be_a_fan_outs_or_none(app, function, response):
    """FanOut[M] answers with M in the end."""
    assert registered(app, function=function).response_type is response


def test_an_unknown_option_fails_at_import(app):
    """Policy stands on the decorator, explicit."""
    with pytest.raises(TypeError, match="retries"):
        registered(app, retries=3)


def test_a_task_without_a_policy_is_celerys_own(app):
    """Ordinary tasks live beside operations."""

    @app.task(name="anything.at.all")
    def plain():
        return 1

    assert plain() == 1
    assert "anything.at.all" not in app.operation_tasks


@pytest.mark.parametrize("send", ["delay", "apply_async"])
def test_an_operation_is_not_sent_as_a_message(app, send):
    """It would have no id, no attempts and no state; the error says what to call instead."""
    with pytest.raises(TypeError, match="call its RPC"):
        getattr(registered(app), send)()


def test_a_spawned_child_finds_the_app_again():
    """By its module, not by its content."""
    assert pickle.loads(pickle.dumps(sample_app)) is sample_app


def test_a_worker_of_an_unknown_queue_does_not_start(app):
    """The queues that there are not are named."""
    with pytest.raises(LookupError, match="no queue nowhere"):
        app.work(queues=["test.default", "nowhere"])


def test_a_queue_that_is_not_declared_is_not_made_up(app):
    """A misspelt queue would take messages that nobody reads."""
    assert app.conf.task_create_missing_queues is False
    assert app.conf.accept_content == ["json"]
    assert app.conf.worker_pool_start_method == "spawn"


def test_an_outage_leaves_owed_events_to_the_relay(app):
    """The work is committed; publishing its events later is no reason to do it again."""

    class Away:
        def publish(self, *, operation_id):
            raise RedisConnectionError("gone")

    vars(app)["relay"] = Away()

    app.publish_owed("id-1")


def test_a_service_that_is_not_installed_has_version_0():
    """Run from its folder."""
    assert version_of("nowhere") == "0"
    assert version_of("sample") == "0.0.0"
