"""One attempt at a time on the in-memory store: what run_attempt needs, and nothing else."""

import contextlib
import dataclasses
import pickle
from datetime import timedelta
from types import SimpleNamespace

from chassis import store_calls
from chassis.acceptance import Provenance, Submission, acceptance
from chassis.attempts import run_attempt
from chassis.deliveries import WorkItem
from chassis.retries import RetryPolicy
from chassis.testing.bench import MemoryBench
from chassis.testing.memory_store import MemoryStore
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue
from redis.exceptions import ConnectionError as RedisConnectionError

LEASE = timedelta(seconds=15)
HELLO = StringValue(value="hello")


class FailingStore(MemoryStore):
    """Out of reach for the next calls of some scripts, or deaf: it does them, and nobody hears of it."""

    def __init__(self):
        super().__init__()
        self.unreachable, self.deaf, self.called = {}, {}, []

    def run(self, call):
        self.called.append(call.script)
        if self.unreachable.get(call.script, 0) > 0:
            self.unreachable[call.script] -= 1
            raise RedisConnectionError(f"no store for {call.script}")
        answer = super().run(call)
        if self.deaf.get(call.script, 0) > 0:
            self.deaf[call.script] -= 1
            raise RedisConnectionError(f"no answer from {call.script}")
        return answer


class App:
    """What run_attempt needs of a ServiceApp."""

    def __init__(self):
        self.service, self.worker_name, self.lease = "test", "test@h:1", LEASE
        self.store = FailingStore()
        self.waybill = SimpleNamespace(max_result_bytes=100)
        self.published = []

    @contextlib.contextmanager
    def running(self, item, attempt):
        self.attempt = attempt
        yield

    def publish_owed(self, operation_id):
        self.published.append(operation_id)


class Runner:
    """Runs one attempt of a function as an operation's task."""

    def __init__(self, app):
        self.app = app
        self.bench = MemoryBench(app.store)

    def accept(self, request=HELLO, **options):
        facts = SimpleNamespace(
            name="test.do", policy=RetryPolicy(), queue_name="q", default_priority=2, retention=None
        )
        item = acceptance(Submission(facts, request), Provenance("", "S/M"))
        item = dataclasses.replace(item, **options)
        self.app.store.run(store_calls.accept([item]))
        self.id = item.record.id
        return self

    def fetch(self):
        fetched = self.app.store.run(store_calls.fetch(1, ["q"], ["test.do"], session=f"f{self.app.store.now_us}"))
        (delivery,) = fetched.deliveries
        return WorkItem.of(delivery)

    def run(self, function, *, item=None, request_type=StringValue, timeout=timedelta(minutes=1), policy=None):
        task = SimpleNamespace(
            service_app=self.app,
            name="test.do",
            policy=policy or RetryPolicy(max_attempts=3),
            timeout=timeout,
            request_type=request_type,
            run=function,
        )
        ended = run_attempt(task, pickle.loads(pickle.dumps(item or self.fetch())))  # as it reaches a pool's child
        if ended is not None:
            self.app.store.run(store_calls.settle([ended.settlement]))
        return self.bench.observe(self.id)

    def result(self, kind):
        packed, message = AnyMessage.FromString(self.bench.observe(self.id).result), kind()
        assert packed.Unpack(message)
        return message
