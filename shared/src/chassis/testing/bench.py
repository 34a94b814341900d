"""One face over the in-memory store and a real one, so that the same scenarios run against both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from waybill.operations.v1 import operations_pb2 as ops

from chassis.descriptions import number, text
from chassis.store import Store, script_source
from chassis.store_calls import Call, microseconds
from chassis.testing.memory_operation import MemoryOperation
from chassis.testing.memory_state import LogEntry
from chassis.testing.memory_store import MemoryStore

R = TypeVar("R")

#: In the past, so that trimming by this clock leaves entries that the server dated itself.
START_US: Final = 1_600_000_000_000_000
_SERVER_TIME: Final = "redis.call('TIME')"
_TOLD_TIME: Final = "redis.call('HMGET', KEYS[1] .. 'clock', 'seconds', 'microseconds')"


@dataclass(frozen=True)
class Observation:
    """All that can be told of an operation; what has ended has no deliveries and returns to speak of."""

    state: str
    #: queue, due, expiring, leased, parked, finished, dead.
    places: frozenset[str]
    due_us: int
    attempts: int
    #: Number, outcome and the error's reason of each on record.
    log: tuple[tuple[int, str, str], ...]
    #: Code, reason and message; None for an operation that succeeded.
    error: tuple[int, str, str] | None
    cancel_requested: bool
    #: Of a fan-out: total, succeeded, failed, cancelled, expired.
    children: tuple[int, ...]
    progress: tuple[int, str] | None
    result: bytes
    replayed_by: str
    deliveries: int
    returns: int


class Bench(Protocol):
    """A store whose clock moves when it is told to, and that can be looked into."""

    now_us: int

    def run(self, call: Call[R]) -> R: ...
    def advance(self, duration: timedelta) -> None: ...
    def observe(self, operation_id: str) -> Observation | None:
        """None for an operation that it does not know."""

    def log(self) -> list[LogEntry]: ...
    def pause(self, queue: str, *, paused: bool = True) -> None: ...
    def misplace(self, operation_id: str) -> None:
        """Take it out of its queue behind the store's back."""

    def mentions(self, operation_id: str) -> set[str]:
        """Wherever an index or a key still has it; the event log and its request_id do not count."""


@dataclass
class MemoryBench:
    """The in-memory store."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore(now_us=START_US))

    @property
    def now_us(self) -> int:
        return self.store.now_us

    def run(self, call: Call[R]) -> R:
        return self.store.run(call)

    def advance(self, duration: timedelta) -> None:
        self.store.advance(duration)

    def log(self) -> list[LogEntry]:
        return list(self.store.log)

    def pause(self, queue: str, *, paused: bool = True) -> None:
        (self.store.paused.add if paused else self.store.paused.discard)(queue)

    def misplace(self, operation_id: str) -> None:
        for queue in self.store.queues.values():
            queue.pop(operation_id, None)

    def mentions(self, operation_id: str) -> set[str]:
        store = self.store
        indexes: dict[str, Collection[str]] = {
            **{f"queue {queue}": members for queue, members in store.queues.items()},
            **{f"parked {task}": members for task, members in store.parked.items()},
            "operations": store.operations,
            "due": store.due,
            "expiring": store.expiring,
            "dead": store.dead,
            "leases": store.leases,
            "finished": store.finished,
        }
        return {name for name, members in indexes.items() if operation_id in members}

    def observe(self, operation_id: str) -> Observation | None:
        operation = self.store.operations.get(operation_id)
        return None if operation is None else self._observation(operation)

    def _observation(self, operation: MemoryOperation) -> Observation:
        succeeded = operation.state == ops.OPERATION_STATE_SUCCEEDED
        error = None if succeeded or operation.error is None else operation.error
        ended = [operation.ended_children.get(state, 0) for state in _ENDED]
        return Observation(
            state=ops.OperationState.Name(operation.state).removeprefix("OPERATION_STATE_"),  # type: ignore[arg-type]
            places=self._places(operation),
            due_us=operation.due_us,
            attempts=operation.attempts,
            log=tuple(
                (n, _outcome(entry.outcome), entry.error.reason if entry.error else "")
                for n, entry in sorted(operation.log.items())
            ),
            error=(error.code, error.reason, error.message) if error else None,
            cancel_requested=operation.cancel_requested,
            children=(len(operation.children), *ended) if operation.fanned_out else (),
            progress=operation.progress,
            result=operation.result,
            replayed_by=operation.replayed_by,
            deliveries=0 if operation.final else operation.deliveries,
            returns=operation.returns,
        )

    def _places(self, operation: MemoryOperation) -> frozenset[str]:
        store = self.store
        indexes: Mapping[str, Mapping[str, int]] = {
            "queue": store.queues.get((operation.queue, operation.priority), {}),
            "due": store.due,
            "expiring": store.expiring,
            "leased": store.leases,
            "parked": store.parked.get(operation.task, {}),
            "finished": store.finished,
            "dead": store.dead,
        }
        return frozenset(place for place, index in indexes.items() if operation.id in index)


class ValkeyBench:
    """The real scripts on a real server, with their clock in a key of the service instead of the server's."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_us = START_US
        self._tell()

    def run(self, call: Call[R]) -> R:
        source = script_source(call.script)
        if source.count(_SERVER_TIME) != 1:
            raise LookupError(f"{call.script} does not read the server's time where the bench looks for it")
        script = source.replace(_SERVER_TIME, _TOLD_TIME)
        return call.read(self.store.client.eval(script, 1, self.store.keys.prefix, *call.arguments))

    def advance(self, duration: timedelta) -> None:
        """Keys that the server lets run out are aged by as much."""
        self.now_us += microseconds(duration)
        self._tell()
        for key in self.store.client.scan_iter(self.store.keys.prefix + "*"):
            left = self.store.client.pttl(key)
            if left >= 0:
                self.store.client.pexpire(key, max(0, left - duration // timedelta(milliseconds=1)))

    def log(self) -> list[LogEntry]:
        entries = self.store.client.xrange(self.store.keys.named("events"))
        return [
            LogEntry(
                text(fields, b"v") or text(fields, b"ty"),
                text(fields, b"id"),
                number(fields, b"st"),
                number(fields, b"at"),
            )
            for _, fields in entries
        ]

    def pause(self, queue: str, *, paused: bool = True) -> None:
        change = self.store.client.sadd if paused else self.store.client.srem
        change(self.store.keys.named("paused"), queue)

    def misplace(self, operation_id: str) -> None:
        stored = self.store.client.hgetall(self.store.keys.operation(operation_id))
        self.store.client.zrem(self.store.keys.queue(text(stored, b"q"), number(stored, b"pr")), operation_id)

    def mentions(self, operation_id: str) -> set[str]:
        client, found = self.store.client, set()
        for key in client.scan_iter(self.store.keys.prefix + "*"):
            kind = client.type(key)
            if (
                operation_id.encode() in key
                or (kind == b"zset" and client.zscore(key, operation_id) is not None)
                or (kind == b"set" and client.sismember(key, operation_id))
            ):
                found.add(key.decode())
        return found

    def observe(self, operation_id: str) -> Observation | None:
        stored = self.store.client.hgetall(self.store.keys.operation(operation_id))
        return self._observation(operation_id, stored) if stored else None

    def _observation(self, operation_id: str, stored: Mapping[bytes, bytes]) -> Observation:
        state = number(stored, b"st")
        error = number(stored, b"ec"), text(stored, b"er"), text(stored, b"em")
        return Observation(
            state=ops.OperationState.Name(state).removeprefix("OPERATION_STATE_"),  # type: ignore[arg-type]
            places=self._places(operation_id, stored),
            due_us=number(stored, b"due"),
            attempts=number(stored, b"at"),
            log=tuple(_logged(stored)),
            error=error if error[0] and state != ops.OPERATION_STATE_SUCCEEDED else None,
            cancel_requested=stored.get(b"cn") == b"1",
            children=tuple(number(stored, key) for key in (b"kids", b"k5", b"k6", b"k7", b"k8")) * (b"kids" in stored),
            progress=(number(stored, b"pct"), text(stored, b"msg")) if b"pct" in stored else None,
            result=stored.get(b"res", b""),
            replayed_by=text(stored, b"rep"),
            deliveries=0 if state >= _ENDED[0] else number(stored, b"dl"),
            returns=number(stored, b"ret"),
        )

    def _places(self, operation_id: str, stored: Mapping[bytes, bytes]) -> frozenset[str]:
        keys = self.store.keys
        indexes = {
            "queue": keys.queue(text(stored, b"q"), number(stored, b"pr")),
            "due": keys.named("due"),
            "expiring": keys.named("expiring"),
            "leased": keys.named("leases"),
            "parked": keys.named("parked:" + text(stored, b"task")),
            "finished": keys.named("finished"),
            "dead": keys.named("dead"),
        }
        pipeline = self.store.client.pipeline(transaction=False)
        for key in indexes.values():
            pipeline.zscore(key, operation_id)
        return frozenset(place for place, score in zip(indexes, pipeline.execute(), strict=True) if score is not None)

    def _tell(self) -> None:
        seconds, rest = divmod(self.now_us, 1_000_000)
        clock = {"seconds": seconds, "microseconds": rest}
        self.store.client.hset(self.store.keys.named("clock"), mapping=clock)


_ENDED: Final = (
    ops.OPERATION_STATE_SUCCEEDED,
    ops.OPERATION_STATE_FAILED,
    ops.OPERATION_STATE_CANCELLED,
    ops.OPERATION_STATE_EXPIRED,
)


def _outcome(outcome: int) -> str:
    return ops.AttemptOutcome.Name(outcome).removeprefix("ATTEMPT_OUTCOME_")  # type: ignore[arg-type]


def _logged(stored: Mapping[bytes, bytes]) -> list[tuple[int, str, str]]:
    found = []
    for n in range(1, number(stored, b"at") + 2):
        if b"a%d" % n in stored:
            outcome = int(stored.get(b"a%dz" % n, b"|0").decode().partition("|")[2])
            cause = stored.get(b"a%dc" % n, b"0||").decode().split("|", 2)[1]
            found.append((n, _outcome(outcome), cause))
    return found
