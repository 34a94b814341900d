"""The indexes of the in-memory store, and the moves of operations between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from google.rpc import code_pb2
from waybill.operations.v1 import operations_pb2 as ops

from chassis.testing.memory_operation import Error, MemoryOperation

RUNNING: Final = int(ops.OPERATION_STATE_RUNNING)
CANCELLED_ERROR: Final = Error(code_pb2.CANCELLED, "cancelled by a client", "CANCELLED")
EXPIRED_ERROR: Final = Error(code_pb2.DEADLINE_EXCEEDED, "expire_time passed before an attempt began", "EXPIRED")


class LogEntry(NamedTuple):
    """One entry of the event log: a state change, or a published event with its type as `verb`."""

    verb: str
    operation_id: str
    state: int
    attempt: int


@dataclass
class MemoryState:
    """Where operations are. Each index has an id with the instant that it is ordered by, Unix microseconds."""

    now_us: int = 1_600_000_000_000_000
    operations: dict[str, MemoryOperation] = field(default_factory=dict)
    queues: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)
    expiring: dict[str, int] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    parked: dict[str, dict[str, int]] = field(default_factory=dict)
    #: Of operations that only the archive has: the id of the last replay by that of the original.
    replays: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    log: list[LogEntry] = field(default_factory=list)

    def _promote(self, limit: int) -> int:
        due = self._before_now(self.due, limit)
        for operation_id in due:
            del self.due[operation_id]
            self._enqueue(self.operations[operation_id], self.now_us)
            self._emit("queued", self.operations[operation_id])
        return len(due)

    def _enqueue(self, operation: MemoryOperation, place_us: int) -> None:
        operation.state, operation.place_us, operation.due_us = ops.OPERATION_STATE_QUEUED, place_us, 0
        self.queues.setdefault((operation.queue, operation.priority), {})[operation.id] = place_us

    def _requeue(self, operation: MemoryOperation, place_us: int, verb: str) -> None:
        self._unlease(operation)
        self._enqueue(operation, place_us)
        self._watch_expiry(operation)
        self._emit(verb, operation)

    def _defer(self, operation: MemoryOperation, state: int, due_us: int) -> None:
        operation.state, operation.due_us = state, due_us
        self.due[operation.id] = due_us
        self._watch_expiry(operation)

    def _watch_expiry(self, operation: MemoryOperation) -> None:
        if operation.expire_us:
            self.expiring[operation.id] = operation.expire_us

    def _expire(self, operation: MemoryOperation) -> None:
        operation.error = EXPIRED_ERROR
        self._finish(operation, ops.OPERATION_STATE_EXPIRED, "expired")

    def _finish(self, operation: MemoryOperation, state: int, verb: str) -> None:
        """The one way into a final state."""
        for index in (self._queue_of(operation), self.due, self.expiring, self.parked.get(operation.task, {})):
            index.pop(operation.id, None)
        self._unlease(operation)
        operation.state, operation.end_us, operation.due_us = state, self.now_us, 0
        operation.waits_for_children = operation.cancel_requested = False
        self.finished[operation.id] = operation.keep_until_us
        if state == ops.OPERATION_STATE_FAILED:
            self.dead[operation.id] = self.now_us
        self._emit(verb, operation)
        parent = self.operations.get(operation.parent)
        if parent is not None:
            parent.ended_children[state] = parent.ended_children.get(state, 0) + 1
            self._archive_again(parent)
            self._end_if_children_have(parent)

    def _end_if_children_have(self, parent: MemoryOperation) -> None:
        if parent.waits_for_children and parent.children_ended >= len(parent.children):
            self._finish(parent, ops.OPERATION_STATE_SUCCEEDED, "succeeded")

    def _archive_again(self, operation: MemoryOperation) -> None:
        if operation.final:
            self.finished[operation.id] = operation.keep_until_us

    def _forget_past(self, limit: int) -> int:
        past = self._before_now(self.finished, limit)
        for operation_id in past:
            self._forget(operation_id)
        return len(past)

    def _forget(self, operation_id: str) -> None:
        for index in (self.operations, self.finished, self.dead):
            index.pop(operation_id, None)

    def _unlease(self, operation: MemoryOperation) -> None:
        self.leases.pop(operation.id, None)
        operation.delivery = operation.token = ""

    def _queue_of(self, operation: MemoryOperation) -> dict[str, int]:
        return self.queues.get((operation.queue, operation.priority), {})

    def _emit(self, verb: str, operation: MemoryOperation) -> None:
        self.log.append(LogEntry(verb, operation.id, operation.state, operation.attempts))

    def _before_now(self, index: dict[str, int], limit: int) -> list[str]:
        return [operation_id for operation_id in in_order(index) if index[operation_id] <= self.now_us][:limit]

    def _pairs(self, arguments: Sequence[str]) -> Iterable[tuple[MemoryOperation | None, str]]:
        return [(self.operations.get(id_), d) for id_, d in zip(arguments[::2], arguments[1::2], strict=True)]


def in_order(index: dict[str, int]) -> list[str]:
    """As a sorted set has them: by instant, then by id."""
    return sorted(index, key=lambda operation_id: (index[operation_id], operation_id))
