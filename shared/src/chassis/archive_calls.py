"""The calls of the operation store that bring what has ended into the archive, and forget it then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from chassis.store_calls import Call, microseconds


@dataclass(frozen=True, slots=True)
class Unarchived:
    """An ended operation that the archive is to have, with its hash as it stood."""

    operation_id: str
    stored: Mapping[bytes, bytes]

    @property
    def stamp(self) -> str:
        """What may still change of an ended operation."""
        return "|".join(self.stored.get(field, b"").decode() for field in _CHANGING)


_CHANGING: Final = (b"rep", b"dis", b"k5", b"k6", b"k7", b"k8")
#: How long nobody else archives, and how many bytes of payloads and results are enough for one answer.
ARCHIVE_TURN: Final = timedelta(seconds=10)
ARCHIVE_BYTES: Final = 4 << 20


def unarchived(identity: str, *, tail: timedelta, limit: int) -> Call[list[Unarchived] | None]:
    """Answers None when it is another's turn to archive."""

    def read(answer: Any) -> list[Unarchived] | None:
        if answer is None:
            return None
        return [Unarchived(id_.decode(), dict(zip(flat[::2], flat[1::2], strict=True))) for id_, flat in answer]

    turn = ARCHIVE_TURN // timedelta(seconds=1)
    return Call("unarchived", [identity, turn, microseconds(tail), limit, ARCHIVE_BYTES], read)


def archived(items: Sequence[Unarchived], *, tail: timedelta) -> Call[int]:
    """Answers how many are marked; one that has changed since it was read is not."""
    arguments: list[str | bytes | int] = [microseconds(tail)]
    for item in items:
        arguments.extend((item.operation_id, item.stamp))
    return Call("archived", arguments, int)


def retire(limit: int) -> Call[int]:
    """Answers how many operations that are past their time were forgotten."""
    return Call("retire", [limit], int)


def discard(operation_ids: Sequence[str]) -> Call[list[str]]:
    """Answers discarded, or unknown where there is no such dead letter."""
    return Call("discard", list(operation_ids), lambda answer: [value.decode() for value in answer])


def replays_noted(replays: Mapping[str, str]) -> Call[int]:
    """`replays`: the replay's id by that of the original. Answers how many need no further note."""
    return Call("replays_noted", [part for pair in replays.items() for part in pair], int)
