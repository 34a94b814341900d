"""The calls of the operation store: arguments in, answers out, no connection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from waybill.store.v1 import store_pb2

R = TypeVar("R")

#: AIP-155: how long a request_id is remembered.
REQUEST_ID_RETENTION: Final = timedelta(hours=24)
#: How long an event stays in the log; a cursor is valid as long.
EVENT_RETENTION: Final = timedelta(hours=25)
LEASE: Final = timedelta(seconds=15)
HOUSEKEEPING_INTERVAL: Final = timedelta(seconds=1)


def microseconds(duration: timedelta) -> int:
    """Whole microseconds."""
    return duration // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of a service's keys. All share one hash tag, so that a cluster keeps them in one slot."""

    service: str

    @property
    def prefix(self) -> str:
        return f"wb:{{{self.service}}}:"

    def operation(self, operation_id: str) -> str:
        return f"{self.prefix}op:{operation_id}"

    def queue(self, queue: str, priority: int) -> str:
        return f"{self.prefix}q:{queue}:{priority}"

    def bell(self, queue: str) -> str:
        return f"{self.prefix}bell:{queue}"

    def named(self, name: str) -> str:
        """One of: events, events:trimmed, ops, due, leases, dead, finished, paused, parked, replays, workers."""
        return self.prefix + name


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One script call: its name, its arguments after the prefix, and how its answer reads."""

    script: str
    arguments: Sequence[str | bytes | int]
    read: Callable[[Any], R]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One operation to be accepted."""

    record: store_pb2.OperationRecord
    queue: str
    priority: int
    max_attempts: int
    #: How long the finished operation is kept.
    keep_success: timedelta
    keep_failure: timedelta
    #: Unix microseconds; 0: due at once.
    due_us: int = 0
    #: Principal, method and request_id; empty: no idempotency key.
    idempotency_scope: str = ""

    def arguments(self) -> tuple[str | bytes | int, ...]:
        record = self.record
        trace = record.trace
        return (
            record.id,
            record.SerializeToString(),
            record.task,
            self.queue,
            self.priority,
            self.max_attempts,
            self.due_us,
            record.expire_time_us,
            hashlib.sha256(self.idempotency_scope.encode()).hexdigest()[:32] if self.idempotency_scope else "",
            fingerprint(record),
            f"{trace.trace_id.hex()}/{trace.send_span_id.hex()}",
            trace.SerializeToString(),
            id_of(record.parent),
            id_of(record.replayed_from),
            microseconds(self.keep_success),
            microseconds(self.keep_failure),
        )


ACCEPTANCE_FIELDS: Final = 16


def fingerprint(record: store_pb2.OperationRecord) -> str:
    """Says whether two requests under one request_id are the same: task and payload."""
    digest = hashlib.sha256(record.task.encode())
    digest.update(record.request.SerializeToString(deterministic=True))
    return digest.hexdigest()[:32]


def id_of(name: str) -> str:
    """`operations/{service}/{id}` -> id; empty for an empty name."""
    return name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Verdict:
    """accepted, same, reused, full or orphan; for same and reused the id is that of the first operation."""

    verdict: str
    operation_id: str


def accept(items: Sequence[Acceptance], *, bound: int = 0) -> Call[list[Verdict]]:
    """`bound`: most due operations in a queue; 0: none."""
    arguments: list[str | bytes | int] = [ACCEPTANCE_FIELDS, REQUEST_ID_RETENTION // timedelta(milliseconds=1), bound]
    for item in items:
        arguments.extend(item.arguments())
    return Call(
        "accept", arguments, lambda answer: [Verdict(verdict.decode(), id_.decode()) for verdict, id_ in answer]
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt may run. `previous_span` is the 16 hex digits of the attempt before, empty for the first."""

    attempt: int
    previous_span: str
    token: str
    span_id: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A leased operation on its way to an attempt."""

    operation_id: str
    delivery: str
    #: Serialized OperationRecord.
    record: bytes
    #: Attempts counted so far.
    attempts: int
    task: str
    queue: str
    max_attempts: int
    #: How long it had been due.
    waited: timedelta = timedelta()
    #: None: its attempt is still to begin.
    begun: Begun | None = None


@dataclass(frozen=True, slots=True)
class SharedBegins:
    """Which attempts may begin with the fetch that brings them: short ones, as long as they fit into `budget` together.

    `seed` is random and new in every call; tokens and span ids are made of it. `costs` are the times that tasks are
    known to run; a task without one begins alone.
    """

    worker: str
    seed: str
    budget: timedelta
    costs: Mapping[str, timedelta]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch brought."""

    deliveries: list[Delivery]
    #: Until the next operation falls due; None when none waits.
    next_due: timedelta | None


def fetch(  # noqa: PLR0913 (what a worker says of itself, all named)
    limit: int,
    queues: Sequence[str],
    tasks: Sequence[str],
    *,
    session: str,
    number: int = 1,
    heard: int = 0,
    lease: timedelta = LEASE,
    begins: SharedBegins | None = None,
) -> Call[Fetched]:
    """Deliveries are named `<session>.<number>:<index>`: a worker's random session, and a number new in every call.

    `heard` is the number of the last fetch whose answer arrived; what a later one had handed out goes back first.
    """
    shared = begins or NO_SHARED_BEGINS
    arguments: list[str | bytes | int] = [limit, microseconds(lease), session, number, heard]
    arguments += [shared.worker, shared.seed, microseconds(shared.budget), len(queues), *queues]
    for task in tasks:
        cost = shared.costs.get(task)
        arguments += [task, _UNKNOWN_COST if cost is None else microseconds(cost)]
    return Call("fetch", arguments, _read_fetched)


NO_SHARED_BEGINS: Final = SharedBegins("", "", timedelta(0), {})
_UNKNOWN_COST: Final = -1


def _read_fetched(answer: Any) -> Fetched:
    wait = int(answer[0])
    return Fetched([_read_delivery(*item) for item in answer[1:]], None if wait < 0 else timedelta(microseconds=wait))


def _read_delivery(  # noqa: PLR0913, PLR0917 (as the script answers)
    id_: bytes,
    delivery: bytes,
    record: bytes,
    attempts: int,
    task: bytes,
    queue: bytes,
    max_attempts: int,
    waited_us: int,
    token: bytes = b"",
    span: bytes = b"",
    previous_span: bytes = b"",
) -> Delivery:
    begun = None
    if token:
        begun = Begun(attempts + 1, previous_span.decode(), token.decode(), bytes.fromhex(span.decode()))
    waited = timedelta(microseconds=waited_us)
    return Delivery(
        id_.decode(), delivery.decode(), record, attempts, task.decode(), queue.decode(), max_attempts, waited, begun
    )


@dataclass(frozen=True, slots=True)
class Gone:
    """There is nothing to run: the operation ended, or another worker has it."""

    why: str


def begin(
    operation_id: str, delivery: str, *, worker: str, token: str, span: bytes, lease: timedelta = LEASE
) -> Call[Begun | Gone]:
    """Count an attempt of a delivery. `token` and `span` must be new."""

    def read(answer: Any) -> Begun | Gone:
        if answer[0] == b"run":
            return Begun(int(answer[1]), answer[2].decode(), token, span)
        return Gone(answer[1].decode())

    return Call("begin", [operation_id, delivery, worker, token, span.hex(), microseconds(lease)], read)


RENEWED, CANCEL_REQUESTED, LOST = 1, 2, 0


def renew(held: Sequence[tuple[str, str]], *, lease: timedelta = LEASE) -> Call[list[int]]:
    """`held`: id and delivery of each. Answers RENEWED, CANCEL_REQUESTED (renewed too) or LOST."""
    arguments: list[str | bytes | int] = [microseconds(lease)]
    for pair in held:
        arguments.extend(pair)
    return Call("renew", arguments, lambda answer: [int(value) for value in answer])


@dataclass(frozen=True, slots=True)
class AttemptError:
    """Why an attempt ended without success."""

    code: int
    message: str
    reason: str
    #: Serialized google.rpc.Status.
    status: bytes = b""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one attempt ended. `token` is the one that its begin was given."""

    operation_id: str
    token: str
    outcome: int
    #: Before the next attempt; only for RETRIED.
    delay: timedelta = timedelta(0)
    #: Serialized google.protobuf.Any; for SUCCEEDED and FANNED_OUT.
    result: bytes = b""
    error: AttemptError | None = None

    def arguments(self) -> tuple[str | bytes | int, ...]:
        error = self.error or _NO_ERROR
        return (
            *(self.operation_id, self.token, self.outcome, microseconds(self.delay), self.result),
            *(error.code, error.message, error.reason, error.status),
        )


_NO_ERROR: Final = AttemptError(0, "", "")
SETTLEMENT_FIELDS: Final = 9
STALE: Final = "stale"


def settle(items: Sequence[Settlement]) -> Call[list[int | None]]:
    """Answers the OperationState that each led to, or None where another attempt has taken over."""
    arguments: list[str | bytes | int] = [SETTLEMENT_FIELDS]
    for item in items:
        arguments.extend(item.arguments())
    return Call("settle", arguments, lambda answer: [None if value == b"stale" else int(value) for value in answer])


def release(held: Sequence[tuple[str, str]], *, lost: bool) -> Call[int]:
    """Give deliveries up: `lost` when their worker died, else returned unbegun. Answers how many were still held."""
    arguments: list[str | bytes | int] = ["lost" if lost else "returned"]
    for pair in held:
        arguments.extend(pair)
    return Call("release", arguments, int)


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """How many operations each part of housekeeping touched."""

    promoted: int = 0
    expired: int = 0
    rescued: int = 0
    deleted: int = 0
    reconciled: int = 0
    leases_granted: int = 0


def housekeeping_interval(lease: timedelta) -> timedelta:
    """How often it is done: often enough that a third of a lease without it means that nobody was there."""
    return min(HOUSEKEEPING_INTERVAL, lease / 6)


def housekeeping(
    *, interval: timedelta | None = None, lease: timedelta = LEASE, limit: int = 200, reconcile: int = 50
) -> Call[Housekeeping | None]:
    """Answers None when another process has just done it."""
    arguments = [
        (interval or housekeeping_interval(lease)) // timedelta(milliseconds=1),
        microseconds(lease),
        microseconds(EVENT_RETENTION),
        limit,
        reconcile,
    ]
    return Call("housekeeping", arguments, lambda answer: Housekeeping(*map(int, answer)) if answer else None)


@dataclass(frozen=True, slots=True)
class Cancellation:
    """cancelled, requested (an attempt runs and is told), final or unknown."""

    verdict: str


def cancel(operation_ids: Sequence[str]) -> Call[list[Cancellation]]:
    """Cancel each and all that it fanned out to. Ended operations stay as they are."""
    return Call("cancel", list(operation_ids), lambda answer: [Cancellation(verdict.decode()) for verdict in answer])


def progress(operation_id: str, token: str, percent: int, message: str) -> Call[int]:
    """Answers RENEWED, CANCEL_REQUESTED or LOST."""
    return Call("progress", [operation_id, token, percent, message], int)


def ask(operation_id: str, token: str) -> Call[int]:
    """Whether the attempt may go on; answers as `progress` does and reports nothing."""
    return Call("progress", [operation_id, token, "", ""], int)


def publish(events: Sequence[tuple[str, str, bytes]]) -> Call[list[bool]]:
    """`events`: id, type and serialized Event of each. Answers False for one that had been published."""
    arguments: list[str | bytes | int] = [EVENT_RETENTION // timedelta(seconds=1)]
    for event in events:
        arguments.extend(event)
    return Call("publish", arguments, lambda answer: [bool(value) for value in answer])


def delete(operation_ids: Sequence[str]) -> Call[list[str]]:
    """Answers deleted, live or unknown."""
    return Call("delete", list(operation_ids), lambda answer: [value.decode() for value in answer])


def write(command: str, name: str, *arguments: str | bytes | int) -> Call[Any]:
    """One command on a key of the service, also where the store is full."""
    return Call("write", [command, name, *arguments], lambda answer: answer)
