"""Attempts in the in-memory store: begin, renew, progress, settle, release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from google.rpc import code_pb2
from waybill.operations.v1 import operations_pb2 as ops

from chassis.testing.memory_operation import AttemptLog, Error, MemoryOperation
from chassis.testing.memory_state import CANCELLED_ERROR, RUNNING, MemoryState

Arguments = Sequence[Any]

MAX_RETURNS: Final = 10


class MemoryAttempts(MemoryState):
    """What workers call once they have fetched."""

    def _begin(self, arguments: Arguments) -> list[Any]:
        operation_id, delivery, worker, token, span, lease_us = arguments
        operation = self.operations.get(operation_id)
        if operation is not None and operation.state == RUNNING and operation.token == token:
            return [b"run", operation.attempts, operation.previous_span.encode()]
        why = self._why_gone(operation, delivery)
        if operation is None or why:
            return [b"gone", why.encode()]
        self._run(operation, worker, token, span)
        self.leases[operation.id] = self.now_us + int(lease_us)
        return [b"run", operation.attempts, operation.previous_span.encode()]

    def _run(self, operation: MemoryOperation, worker: str, token: str, span: str) -> None:
        operation.attempts += 1
        operation.state, operation.token, operation.worker, operation.span = RUNNING, token, worker, span
        operation.deliveries = 0
        operation.start_us = operation.start_us or self.now_us
        operation.log[operation.attempts] = AttemptLog(worker, span)
        self.expiring.pop(operation.id, None)
        self._emit("began", operation)

    def _why_gone(self, operation: MemoryOperation | None, delivery: str) -> str:
        if operation is None:
            return "deleted"
        if operation.state != ops.OPERATION_STATE_QUEUED:
            return f"state {operation.state}"
        if operation.delivery != delivery:
            return "delivered to another worker"
        if operation.expired(self.now_us):
            self._expire(operation)
            return "expired"
        return ""

    def _renew(self, arguments: Arguments) -> list[int]:
        answers = []
        for operation, delivery in self._pairs(arguments[1:]):
            if operation is None or operation.delivery != delivery:
                answers.append(0)
                continue
            self.leases[operation.id] = self.now_us + int(arguments[0])
            answers.append(2 if operation.cancel_requested else 1)
        return answers

    def _progress(self, arguments: Arguments) -> int:
        operation_id, token, percent, message = arguments
        operation = self.operations.get(operation_id)
        if operation is None or operation.state != RUNNING or operation.token != token:
            return 0
        if percent != "" and operation.progress != (int(percent), message):
            operation.progress = (int(percent), message)
            self._emit("progressed", operation)
        return 2 if operation.cancel_requested else 1

    def _settle(self, arguments: Arguments) -> list[bytes]:
        stride = int(arguments[0])
        return [self._settle_one(arguments[base : base + stride]) for base in range(1, len(arguments), stride)]

    def _settle_one(self, item: Arguments) -> bytes:
        operation = self.operations.get(item[0])
        if operation is None or operation.state != RUNNING or operation.token != item[1]:
            if operation is not None:
                self._emit("fenced", operation)
            return b"stale"
        outcome, number, result = int(item[2]), int(item[3]), item[4]
        if outcome not in _WITH_RESULT and int(item[5]):
            operation.error = Error(int(item[5]), item[6], item[7])
        if operation.cancel_requested and outcome != ops.ATTEMPT_OUTCOME_SUCCEEDED:
            outcome = ops.ATTEMPT_OUTCOME_CANCELLED
        settle: Callable[[MemoryOperation, int, bytes], None] = getattr(self, _SETTLES[outcome])
        settle(operation, number, result)
        return str(operation.state).encode()

    def _succeed(self, operation: MemoryOperation, _: int, result: bytes) -> None:
        operation.end_attempt(ops.ATTEMPT_OUTCOME_SUCCEEDED, blamed=False)
        operation.result = result
        self._finish(operation, ops.OPERATION_STATE_SUCCEEDED, "succeeded")

    def _retry(self, operation: MemoryOperation, delay_us: int, _: bytes) -> None:
        operation.end_attempt(ops.ATTEMPT_OUTCOME_RETRIED, blamed=True)
        operation.previous_span = operation.span
        operation.deaths = 0
        self._unlease(operation)
        self._defer(operation, ops.OPERATION_STATE_RETRYING, self.now_us + delay_us)
        self._emit("retried", operation)

    def _fail(self, operation: MemoryOperation, _: int, __: bytes) -> None:
        operation.end_attempt(ops.ATTEMPT_OUTCOME_FAILED, blamed=True)
        self._finish(operation, ops.OPERATION_STATE_FAILED, "failed")

    def _cancel_running(self, operation: MemoryOperation, _: int, __: bytes) -> None:
        operation.error = CANCELLED_ERROR
        operation.end_attempt(ops.ATTEMPT_OUTCOME_CANCELLED, blamed=True)
        self._finish(operation, ops.OPERATION_STATE_CANCELLED, "cancelled")

    def _give_back(self, operation: MemoryOperation, _: int, __: bytes) -> None:
        operation.returns += 1
        if operation.returns > MAX_RETURNS:
            self._lose(operation)
            return
        operation.end_attempt(ops.ATTEMPT_OUTCOME_RETURNED, blamed=False)
        operation.previous_span = operation.span
        self._requeue(operation, operation.place_us, "returned")
        operation.attempts -= 1

    def _fan_out(self, operation: MemoryOperation, _: int, result: bytes) -> None:
        operation.end_attempt(ops.ATTEMPT_OUTCOME_FANNED_OUT, blamed=False)
        self._unlease(operation)
        operation.waits_for_children = operation.fanned_out = True
        operation.result = result
        self._emit("fanned_out", operation)
        self._end_if_children_have(operation)

    def _lose_or_requeue(self, operation: MemoryOperation, _: int = 0, __: bytes = b"") -> None:
        if operation.state == RUNNING:
            self._lose(operation)
            return
        self._unlease(operation)
        if operation.state == ops.OPERATION_STATE_QUEUED:
            self._enqueue(operation, operation.place_us)

    def _lose(self, operation: MemoryOperation) -> None:
        """The attempt's worker died or lost its lease: the attempt counts."""
        operation.error = _lost(f"the worker {operation.worker} died or lost its lease")
        operation.end_attempt(ops.ATTEMPT_OUTCOME_LOST, blamed=True)
        operation.previous_span = operation.span
        operation.deaths += 1
        if operation.cancel_requested:
            operation.error = CANCELLED_ERROR
            self._finish(operation, ops.OPERATION_STATE_CANCELLED, "cancelled")
        elif operation.attempts >= operation.max_attempts:
            operation.error = _lost(f"the worker died {operation.deaths} times")
            self._finish(operation, ops.OPERATION_STATE_FAILED, "failed")
        else:
            self._requeue(operation, self.now_us, "lost")

    def _release(self, arguments: Arguments) -> int:
        returned, released = arguments[0] == "returned", 0
        for operation, delivery in self._pairs(arguments[1:]):
            if operation is None or operation.delivery != delivery:
                continue
            unbegun = operation.state == ops.OPERATION_STATE_QUEUED
            if returned and not unbegun:
                continue
            released += 1
            operation.deliveries -= int(returned)
            self._lose_or_requeue(operation)
        return released


_WITH_RESULT: Final = frozenset({ops.ATTEMPT_OUTCOME_SUCCEEDED, ops.ATTEMPT_OUTCOME_FANNED_OUT})
_SETTLES: Final[dict[int, str]] = {
    ops.ATTEMPT_OUTCOME_SUCCEEDED: "_succeed",
    ops.ATTEMPT_OUTCOME_RETRIED: "_retry",
    ops.ATTEMPT_OUTCOME_FAILED: "_fail",
    ops.ATTEMPT_OUTCOME_CANCELLED: "_cancel_running",
    ops.ATTEMPT_OUTCOME_LOST: "_lose_or_requeue",
    ops.ATTEMPT_OUTCOME_RETURNED: "_give_back",
    ops.ATTEMPT_OUTCOME_FANNED_OUT: "_fan_out",
}


def _lost(message: str) -> Error:
    return Error(code_pb2.UNAVAILABLE, message, "WORKER_LOST")
