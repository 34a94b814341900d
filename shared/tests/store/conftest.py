"""Every scenario of the operation store runs against the in-memory store and against the scripts on a real Valkey."""

import itertools
from dataclasses import dataclass
from datetime import timedelta

import pytest
from chassis import archive_calls, store_calls
from chassis.store_calls import Acceptance, AttemptError, Begun, Settlement, SharedBegins, microseconds
from chassis.testing.bench import MemoryBench, ValkeyBench
from google.protobuf.struct_pb2 import Struct
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

LEASE = timedelta(seconds=15)
TAIL = timedelta(minutes=10)
BROKEN = AttemptError(14, "broken", "BROKEN", b"status")


@dataclass(frozen=True)
class Run:
    """An attempt that has begun."""

    operation_id: str
    delivery: str
    token: str
    number: int
    previous_span: str


class Desk:
    """Short words for what tests ask of a store."""

    def __init__(self, bench):
        self.bench = bench
        self.run_call, self.advance, self.observe = bench.run, bench.advance, bench.observe
        self._numbers = itertools.count(1)
        #: What lockstep's archivist has read.
        self.read = []

    def an_acceptance(self, task="t", queue="q", priority=2, **options):
        number = next(self._numbers)
        payload = Struct()
        payload.update({"payload": options.pop("payload", "")})
        expires = options.pop("expires_in", None)
        due = options.pop("due_in", timedelta(0))
        record = store_pb2.OperationRecord(
            id=f"00000000-0000-7000-8000-{number:012d}",
            task=task,
            parent=options.pop("parent", ""),
            replayed_from=options.pop("replayed_from", ""),
            expire_time_us=self.bench.now_us + microseconds(expires) if expires is not None else 0,
        )
        record.request.Pack(payload)
        return Acceptance(
            record=record,
            queue=queue,
            priority=priority,
            max_attempts=options.pop("max_attempts", 3),
            keep_success=options.pop("keep_success", timedelta(days=7)),
            keep_failure=options.pop("keep_failure", timedelta(days=30)),
            due_us=self.bench.now_us + microseconds(due) if due else 0,
            idempotency_scope=options.pop("scope", ""),
            **options,
        )

    def verdict(self, *items, bound=0):
        return [answer.verdict for answer in self.run_call(store_calls.accept(items, bound=bound))]

    def accept(self, **options):
        item = self.an_acceptance(**options)
        assert self.verdict(item) == ["accepted"]
        return item.record.id

    def fetched(self, limit=10, *, queues=("q",), tasks=("t",), lease=LEASE, costs=None, budget=5, session="", heard=0):
        """Costs and budget, for begins that share the fetch, are milliseconds."""
        number = next(self._numbers)
        session = session or f"f{number}"
        known = {task: timedelta(milliseconds=cost) for task, cost in (costs or {}).items()}
        begins = SharedBegins("w", f"seed{number}", timedelta(milliseconds=budget), known)
        return self.run_call(
            store_calls.fetch(
                limit, queues, tasks, session=session, number=number, heard=heard, lease=lease, begins=begins
            )
        )

    def fetch(self, limit=10, **options):
        return [delivery.operation_id for delivery in self.fetched(limit, **options).deliveries]

    def deliver(self, **options):
        """Accept one operation and fetch it; its delivery."""
        operation_id = self.accept(**options)
        task, queue = options.get("task", "t"), options.get("queue", "q")
        (delivery,) = self.fetched(1, queues=(queue,), tasks=(task,)).deliveries
        assert delivery.operation_id == operation_id
        return delivery

    def try_to_begin(self, delivery, worker="w", lease=LEASE, token=""):
        number = next(self._numbers)
        token = token or f"token{number}"
        call = store_calls.begin(
            delivery.operation_id,
            delivery.delivery,
            worker=worker,
            token=token,
            span=number.to_bytes(8, "big"),
            lease=lease,
        )
        return self.run_call(call), token

    def begin(self, delivery, **options):
        answer, token = self.try_to_begin(delivery, **options)
        assert isinstance(answer, Begun), answer
        return Run(delivery.operation_id, delivery.delivery, token, answer.attempt, answer.previous_span)

    def start(self, **options):
        """Accept, fetch and begin."""
        return self.begin(self.deliver(**options))

    def again(self, operation_id, **options):
        """Fetch and begin the next attempt of the only operation that is due."""
        (delivery,) = self.fetched(10).deliveries
        assert delivery.operation_id == operation_id
        return self.begin(delivery, **options)

    def settle(self, run, outcome, error=None, **options):
        """The state that it led to, or "stale"."""
        settlement = Settlement(
            run.operation_id,
            run.token,
            ops.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome}"),
            error=error or (BROKEN if outcome in {"RETRIED", "FAILED"} else None),
            **options,
        )
        (state,) = self.run_call(store_calls.settle([settlement]))
        return "stale" if state is None else ops.OperationState.Name(state).removeprefix("OPERATION_STATE_")

    def cancel(self, *operation_ids):
        return [answer.verdict for answer in self.run_call(store_calls.cancel(operation_ids))]

    def renew(self, *runs):
        return self.run_call(store_calls.renew([(run.operation_id, run.delivery) for run in runs], lease=LEASE))

    def release(self, *runs, lost):
        return self.run_call(store_calls.release([(run.operation_id, run.delivery) for run in runs], lost=lost))

    def unarchived(self, tail=TAIL, limit=200, who="archivist"):
        """What the archive is to have; None when it is another's turn."""
        return self.run_call(archive_calls.unarchived(who, tail=tail, limit=limit))

    def archive(self, tail=TAIL):
        """One pass of an archivist whose archive takes everything; the ids."""
        ended = self.unarchived(tail)
        assert self.run_call(archive_calls.archived(ended, tail=tail)) == len(ended)
        return [item.operation_id for item in ended]

    def discard(self, *operation_ids):
        return self.run_call(archive_calls.discard(operation_ids))

    def keep_house(self, **options):
        options = {"interval": timedelta(milliseconds=1), "lease": LEASE} | options
        done = self.run_call(store_calls.housekeeping(**options))
        self.advance(timedelta(milliseconds=1))
        return done

    def pass_time(self, duration, step=timedelta(seconds=4)):
        """Let time pass with somebody keeping house all the while."""
        while duration > timedelta(0):
            self.advance(min(step, duration))
            self.keep_house()
            duration -= step

    def state(self, operation_id):
        seen = self.observe(operation_id)
        return None if seen is None else seen.state

    def verbs(self, operation_id):
        """Its state changes in the event log, oldest first."""
        return [entry.verb for entry in self.bench.log() if entry.operation_id == operation_id]


@pytest.fixture(params=["memory", "valkey"])
def bench(request):
    if request.param == "memory":
        return MemoryBench()
    return ValkeyBench(request.getfixturevalue("store"))


@pytest.fixture
def unkept_desk(bench):
    return Desk(bench)


@pytest.fixture
def desk(bench):
    """Somebody keeps house already, so that what passes unkept from here on is an absence."""
    desk = Desk(bench)
    desk.keep_house()
    return desk


@pytest.fixture
def lockstep_desks(store):
    """A desk on each store, for tests that compare them; both empty, with the same clock and the same names."""

    def fresh():
        store.client.flushdb()
        return Desk(MemoryBench()), Desk(ValkeyBench(store))

    return fresh
