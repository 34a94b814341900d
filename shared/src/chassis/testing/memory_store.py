"""The operation store in memory: every call of `store_calls` with the meaning that `scripts/` give it.

One conformance suite runs against this and against a real Valkey. It is plain Python over plain values, so it is also
the shortest exact account of what the scripts do; its clock moves when it is told to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar

from google.rpc import code_pb2
from waybill.operations.v1 import operations_pb2 as ops

from chassis.store_calls import Call, microseconds
from chassis.testing.memory_archiving import MemoryArchiving
from chassis.testing.memory_attempts import Arguments, MemoryAttempts
from chassis.testing.memory_operation import WAITING, Error, MemoryOperation
from chassis.testing.memory_state import CANCELLED_ERROR, RUNNING, LogEntry, in_order

R = TypeVar("R")

MAX_DELIVERIES: Final = 10
PROMOTED_BY_FETCH: Final = 100
MAX_PASSED_OVER: Final = 100
#: With which priority each of ten turns begins, and what follows when that has nothing.
TURNS: Final = (3, 3, 2, 3, 3, 2, 3, 3, 2, 1)
OTHERS: Final = {3: (3, 2, 1), 2: (2, 3, 1), 1: (1, 3, 2)}

UNDELIVERED: Final = Error(
    code_pb2.UNAVAILABLE, f"delivered {MAX_DELIVERIES} times without an attempt", "DELIVERIES_EXHAUSTED"
)


@dataclass
class MemoryStore(MemoryAttempts, MemoryArchiving):
    """Answers calls as `Store` does. Not for several threads."""

    _requests: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    _published: dict[str, int] = field(default_factory=dict)
    #: Of each worker's session: number and operations of what its last fetch handed out.
    _fetched: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    #: Of each worker's session, the operation that may be poison and that it was given last.
    _suspects: dict[str, str] = field(default_factory=dict)
    _turn: int = 0
    _kept_house_us: int = 0
    _keep_house_again_us: int = 0
    _position: int = 0

    def run(self, call: Call[R]) -> R:
        """The answer that the call's script gives."""
        answer: Callable[[Arguments], Any] = getattr(self, f"_{call.script}")
        return call.read(answer(call.arguments))

    def advance(self, duration: timedelta) -> None:
        """Let time pass."""
        self.now_us += microseconds(duration)

    def _accept(self, arguments: Arguments) -> list[list[bytes]]:
        stride, remember_ms, bound = (int(argument) for argument in arguments[:3])
        answers = []
        for base in range(3, len(arguments), stride):
            verdict, operation_id = self._accept_one(arguments[base : base + stride], remember_ms * 1000, bound)
            answers.append([verdict.encode(), operation_id.encode()])
        return answers

    def _accept_one(self, item: Arguments, remember_us: int, bound: int) -> tuple[str, str]:
        operation = MemoryOperation(
            id=item[0],
            record=item[1],
            task=item[2],
            queue=item[3],
            priority=int(item[4]),
            max_attempts=int(item[5]),
            expire_us=int(item[7]),
            parent=item[12],
            keep_success_us=int(item[14]),
            keep_failure_us=int(item[15]),
            create_us=self.now_us,
        )
        due_us, scope, fingerprint, replayed = int(item[6]), item[8], item[9], item[13]
        first = self._requests.get(scope)
        if scope and first is not None and first[2] > self.now_us:
            return ("same" if first[1] == fingerprint else "reused"), first[0]
        if operation.parent and not self._accepts_children(operation.parent):
            return "orphan", operation.id
        if bound and sum(len(self.queues.get((operation.queue, p), {})) for p in (1, 2, 3)) >= bound:
            return "full", operation.id
        if scope:
            self._requests[scope] = (operation.id, fingerprint, self.now_us + remember_us)
        self._admit(operation, due_us, replayed)
        return "accepted", operation.id

    def _accepts_children(self, parent_id: str) -> bool:
        parent = self.operations.get(parent_id)
        running = parent is not None and parent.state == RUNNING
        return parent is not None and running and not parent.cancel_requested and not parent.waits_for_children

    def _admit(self, operation: MemoryOperation, due_us: int, replayed: str) -> None:
        self.operations[operation.id] = operation
        if operation.parent:
            self.operations[operation.parent].children.append(operation.id)
        if replayed in self.operations:
            self.operations[replayed].replayed_by = operation.id
            self._archive_again(self.operations[replayed])
        elif replayed:
            self.replays[replayed] = operation.id
        self._watch_expiry(operation)
        if due_us > self.now_us:
            self._defer(operation, ops.OPERATION_STATE_SCHEDULED, due_us)
        else:
            self._enqueue(operation, self.now_us)
        self._emit("accepted", operation)

    def _fetch(self, arguments: Arguments) -> list[Any]:
        limit, lease_us, session, fetch, heard, worker, seed = int(arguments[0]), int(arguments[1]), *arguments[2:7]
        budget_us, count = int(arguments[7]), int(arguments[8])
        queues = [queue for queue in arguments[9 : 9 + count] if queue not in self.paused]
        costs_us = dict(zip(arguments[9 + count :: 2], map(int, arguments[10 + count :: 2]), strict=True))
        known = costs_us.keys()
        self._take_back_unheard(session, heard)
        self._promote(PROMOTED_BY_FETCH)
        self._unpark(known)
        deliveries: list[list[Any]] = []
        if any(self.queues.get((queue, p)) for queue in queues for p in (1, 2, 3)):
            self._turn += 1
        turn = self._turn
        kept_back: list[MemoryOperation] = []
        while (
            len(deliveries) < limit
            and len(kept_back) < MAX_PASSED_OVER
            and (operation := self._take(queues, turn)) is not None
        ):
            turn += 1
            if not self._deliverable(operation, known):
                continue
            if operation.suspect and not self._may_take_suspect(session, operation):
                kept_back.append(operation)
            else:
                number = len(deliveries) + 1
                operation.delivery = f"{session}.{fetch}:{number}"
                answer = _delivery(operation, self.now_us)
                if operation.begins_shared and 0 <= costs_us[operation.task] <= budget_us:
                    budget_us -= costs_us[operation.task]
                    token, span = f"{seed}.{number}", hashlib.sha1((seed + operation.id).encode()).hexdigest()[:16]  # noqa: S324 (an id)
                    answer += [token.encode(), span.encode(), operation.previous_span.encode()]
                    self._run(operation, worker, token, span)
                else:
                    operation.deliveries += 1
                self.leases[operation.id] = self.now_us + lease_us
                deliveries.append(answer)
        for operation in kept_back:
            self.queues[operation.queue, operation.priority][operation.id] = operation.place_us
        self._fetched.pop(session, None)
        if deliveries:
            ids = [answer[0].decode() for answer in deliveries]
            self._fetched[session] = (fetch, ids)
        next_due = min(self.due.values(), default=None)
        return [-1 if next_due is None else max(0, next_due - self.now_us), *deliveries]

    def _may_take_suspect(self, session: str, operation: MemoryOperation) -> bool:
        """A worker has one that may be poison at a time."""
        held = self.operations.get(self._suspects.get(session, ""))
        if held is not None and held.delivery.startswith(f"{session}."):
            return False
        self._suspects[session] = operation.id
        return True

    def _take_back_unheard(self, session: str, heard: int) -> None:
        """Nobody runs what a fetch handed out whose answer was lost."""
        number, ids = self._fetched.get(session, (heard, []))
        if number == heard:
            return
        for operation in [self.operations[id_] for id_ in ids if id_ in self.operations]:
            if not operation.delivery.startswith(f"{session}.{number}:"):
                continue
            if operation.state == RUNNING:
                self._give_back(operation, 0, b"")
            elif operation.state == ops.OPERATION_STATE_QUEUED:
                operation.deliveries -= 1
                self._lose_or_requeue(operation)

    def _unpark(self, known: Collection[str]) -> None:
        for task in [task for task in self.parked if task in known]:
            for operation_id in in_order(self.parked.pop(task)):
                operation = self.operations[operation_id]
                self._enqueue(operation, operation.place_us)
                self._emit("queued", operation)

    def _take(self, queues: Sequence[str], turn: int) -> MemoryOperation | None:
        first = turn % 10 + turn // 10
        for priority in OTHERS[TURNS[turn % 10]]:
            for step in range(1, len(queues) + 1):
                waiting = self.queues.get((queues[(first + step) % len(queues)], priority))
                if waiting:
                    operation_id = in_order(waiting)[0]
                    del waiting[operation_id]
                    return self.operations[operation_id]
        return None

    def _deliverable(self, operation: MemoryOperation, known: Collection[str]) -> bool:
        """Whether a worker that registers these tasks gets it; if not, it has gone where it belongs."""
        if operation.expired(self.now_us):
            self._expire(operation)
        elif operation.task not in known:
            self.parked.setdefault(operation.task, {})[operation.id] = self.now_us
            self._emit("parked", operation)
        elif operation.deliveries >= MAX_DELIVERIES:
            operation.error = UNDELIVERED
            self._finish(operation, ops.OPERATION_STATE_FAILED, "failed")
        else:
            return True
        return False

    def _cancel(self, arguments: Arguments) -> list[bytes]:
        return [self._cancel_one(operation_id).encode() for operation_id in arguments]

    def _cancel_one(self, operation_id: str) -> str:
        operation = self.operations.get(operation_id)
        if operation is None:
            return "unknown"
        if operation.final:
            return "final"
        verdict = "cancelled"
        if operation.state == RUNNING and not operation.waits_for_children:
            if not operation.cancel_requested:
                operation.cancel_requested = True
                self._emit("cancel_requested", operation)
            verdict = "requested"
        else:
            operation.error = CANCELLED_ERROR
            self._finish(operation, ops.OPERATION_STATE_CANCELLED, "cancelled")
        for child in sorted(operation.children):
            self._cancel_one(child)
        return verdict

    def _delete(self, arguments: Arguments) -> list[bytes]:
        answers = []
        for operation_id in arguments:
            operation = self.operations.get(operation_id)
            if operation is None:
                answers.append(b"unknown")
            elif not operation.final:
                answers.append(b"live")
            else:
                self._forget(operation_id)
                answers.append(b"deleted")
        return answers

    def _publish(self, arguments: Arguments) -> list[int]:
        answers = []
        for event_id, type_ in zip(arguments[1::3], arguments[2::3], strict=True):
            new = self._published.get(event_id, 0) <= self.now_us
            if new:
                self._published[event_id] = self.now_us + int(arguments[0]) * 1_000_000
                self.log.append(LogEntry(type_, "", 0, 0))
            answers.append(int(new))
        return answers

    def _housekeeping(self, arguments: Arguments) -> list[int]:
        interval_ms, lease_us, _, limit, reconcile = (int(argument) for argument in arguments)
        if self.now_us < self._keep_house_again_us:
            return []
        self._keep_house_again_us = self.now_us + interval_ms * 1000
        granted = self._grant_after_an_absence(lease_us)
        promoted = self._promote(limit)
        expired = self._before_now(self.expiring, limit)
        for operation_id in expired:
            del self.expiring[operation_id]
            if self.operations[operation_id].state in WAITING:
                self._expire(self.operations[operation_id])
        overdue = self._before_now(self.leases, limit)
        for operation_id in overdue:
            self._lose_or_requeue(self.operations[operation_id])
        deleted = self._forget_past(limit)
        return [promoted, len(expired), len(overdue), deleted, self._reconcile(reconcile), granted]

    def _grant_after_an_absence(self, lease_us: int) -> int:
        """Nobody kept house for a third of a lease: every owner gets a full term to show itself."""
        away_us, self._kept_house_us = self.now_us - self._kept_house_us, self.now_us
        if away_us <= lease_us / 3:
            return 0
        short = [operation_id for operation_id, until in self.leases.items() if until <= self.now_us + lease_us]
        self.leases.update(dict.fromkeys(short, self.now_us + lease_us))
        return len(short)

    def _reconcile(self, limit: int) -> int:
        """Put QUEUED operations that are nowhere back into their queue, a page of all operations at a time."""
        everything = in_order({operation.id: operation.create_us for operation in self.operations.values()})
        page = everything[self._position : self._position + limit]
        self._position = self._position + limit if len(page) == limit else 0
        found = [self.operations[operation_id] for operation_id in page]
        nowhere = [o for o in found if o.state == ops.OPERATION_STATE_QUEUED and not self._has_a_place(o)]
        for operation in nowhere:
            self._enqueue(operation, operation.place_us)
        return len(nowhere)

    def _has_a_place(self, operation: MemoryOperation) -> bool:
        queue = self.queues.get((operation.queue, operation.priority), {})
        return operation.id in {**queue, **self.leases, **self.parked.get(operation.task, {})}


def _delivery(operation: MemoryOperation, now_us: int) -> list[Any]:
    return [
        operation.id.encode(),
        operation.delivery.encode(),
        operation.record,
        operation.attempts,
        operation.task.encode(),
        operation.queue.encode(),
        operation.max_attempts,
        max(0, now_us - operation.place_us),
    ]
