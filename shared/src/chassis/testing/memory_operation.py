"""What the in-memory store knows of one operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from waybill.operations.v1 import operations_pb2 as ops

WAITING = frozenset({ops.OPERATION_STATE_SCHEDULED, ops.OPERATION_STATE_QUEUED, ops.OPERATION_STATE_RETRYING})
FINAL = frozenset(
    {
        ops.OPERATION_STATE_SUCCEEDED,
        ops.OPERATION_STATE_FAILED,
        ops.OPERATION_STATE_CANCELLED,
        ops.OPERATION_STATE_EXPIRED,
    }
)


class Error(NamedTuple):
    """Why an attempt, or the operation, ended without success."""

    code: int
    message: str
    reason: str


@dataclass(slots=True)
class AttemptLog:
    """One attempt as it stays on record; outcome 0 while it runs."""

    worker: str
    span: str
    outcome: int = 0
    error: Error | None = None


@dataclass(slots=True)
class MemoryOperation:
    """One operation; times are Unix microseconds, 0 for none."""

    id: str
    record: bytes
    task: str
    queue: str
    priority: int
    max_attempts: int
    expire_us: int
    parent: str
    keep_success_us: int
    keep_failure_us: int
    create_us: int
    state: int = ops.OPERATION_STATE_SCHEDULED
    #: Its place in the queue, kept while it is delivered.
    place_us: int = 0
    due_us: int = 0
    start_us: int = 0
    end_us: int = 0
    attempts: int = 0
    #: Since the last begin.
    deliveries: int = 0
    returns: int = 0
    #: Attempts in a row, up to the last, whose worker died.
    deaths: int = 0
    delivery: str = ""
    token: str = ""
    worker: str = ""
    span: str = ""
    previous_span: str = ""
    cancel_requested: bool = False
    waits_for_children: bool = False
    fanned_out: bool = False
    children: list[str] = field(default_factory=list)
    ended_children: dict[int, int] = field(default_factory=dict)
    progress: tuple[int, str] | None = None
    result: bytes = b""
    error: Error | None = None
    replayed_by: str = ""
    discarded: bool = False
    log: dict[int, AttemptLog] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def children_ended(self) -> int:
        return sum(self.ended_children.values())

    @property
    def keep_until_us(self) -> int:
        """Of one that has ended."""
        failed = self.state == ops.OPERATION_STATE_FAILED
        return self.end_us + (self.keep_failure_us if failed else self.keep_success_us)

    @property
    def begins_shared(self) -> bool:
        """Whether its attempt may begin with others: it is not the last, and the one before did not die."""
        return not self.deaths and self.attempts + 1 < self.max_attempts

    @property
    def suspect(self) -> bool:
        """Whether it may be poison: the next attempt is the last, and the one before died with its worker."""
        return bool(self.deaths) and self.attempts + 1 >= self.max_attempts

    def expired(self, now_us: int) -> bool:
        return bool(self.expire_us) and now_us >= self.expire_us

    def end_attempt(self, outcome: int, *, blamed: bool) -> None:
        """Put the end of the current attempt on record, with the operation's error where it is `blamed`."""
        entry = self.log[self.attempts]
        entry.outcome = outcome
        entry.error = self.error if blamed else None
