"""Ended operations in the in-memory store: what the archive is to have, what it has, what is past its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from waybill.operations.v1 import operations_pb2 as ops

from chassis.testing.memory_operation import MemoryOperation
from chassis.testing.memory_state import MemoryState, in_order

Arguments = Sequence[Any]


class MemoryArchiving(MemoryState):
    """What the archivist and the dead letters call. Of an operation's hash there is only what the archive goes by."""

    _archivist: tuple[str, int] = ("", 0)

    def _unarchived(self, arguments: Arguments) -> list[list[Any]] | None:
        identity, turn_seconds, tail_us, limit, _ = arguments
        holder, until = self._archivist
        if holder not in {"", identity} and until > self.now_us:
            return None
        self._archivist = identity, self.now_us + int(turn_seconds) * 1_000_000
        beyond = [id_ for id_ in in_order(self.finished) if self.finished[id_] > self.now_us + int(tail_us)]
        return [[id_.encode(), _flat(self.operations[id_])] for id_ in beyond[: int(limit)]]

    def _archived(self, arguments: Arguments) -> int:
        marked = 0
        for operation_id, stamp in zip(arguments[1::2], arguments[2::2], strict=True):
            operation = self.operations.get(operation_id)
            if operation is None or not operation.final or _stamp(operation) != stamp:
                continue
            self.finished[operation_id] = min(self.finished[operation_id], operation.end_us + int(arguments[0]))
            marked += 1
        return marked

    def _retire(self, arguments: Arguments) -> int:
        return self._forget_past(int(arguments[0]))

    def _discard(self, arguments: Arguments) -> list[bytes]:
        answers = []
        for operation_id in arguments:
            known = self.dead.pop(operation_id, None) is not None
            if known:
                self.operations[operation_id].discarded = True
                self._archive_again(self.operations[operation_id])
            answers.append(b"discarded" if known else b"unknown")
        return answers

    def _replays_noted(self, arguments: Arguments) -> int:
        pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
        noted = [original for original, replay in pairs if self.replays.get(original) == replay]
        for original in noted:
            del self.replays[original]
        return len(noted)


_ENDED: Final = (
    ops.OPERATION_STATE_SUCCEEDED,
    ops.OPERATION_STATE_FAILED,
    ops.OPERATION_STATE_CANCELLED,
    ops.OPERATION_STATE_EXPIRED,
)


def _changing(operation: MemoryOperation) -> dict[bytes, str]:
    counts = {b"k%d" % state: str(operation.ended_children.get(state, "")) for state in _ENDED}
    return {b"rep": operation.replayed_by, b"dis": "1" if operation.discarded else "", **counts}


def _stamp(operation: MemoryOperation) -> str:
    return "|".join(_changing(operation).values())


def _flat(operation: MemoryOperation) -> list[bytes]:
    facts = {b"rec": operation.record, b"st": str(operation.state).encode(), b"et": str(operation.end_us).encode()}
    changing = {field: value.encode() for field, value in _changing(operation).items() if value}
    return [part for pair in {**facts, **changing}.items() for part in pair]
