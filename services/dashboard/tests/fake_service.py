"""A service's operations, queues, workers and events in memory, moved by hand or by a simulated workload.

It keeps to the contract where the dashboard can see it: states, attempts, events in one order with cursors,
dead letters by group. Every change writes its event before anybody can read it.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from waybill.admin.v1 import admin_pb2
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as ops

FINAL = {
    ops.OPERATION_STATE_SUCCEEDED,
    ops.OPERATION_STATE_FAILED,
    ops.OPERATION_STATE_CANCELLED,
    ops.OPERATION_STATE_EXPIRED,
}
Clock = Callable[[], datetime]


def a_status(code: int, message: str, reason: str, **violations: str) -> status_pb2.Status:
    """A rich error; each keyword is a field violation."""
    status = status_pb2.Status(code=code, message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="fake"))
    if violations:
        bad = error_details_pb2.BadRequest()
        for name, description in violations.items():
            bad.field_violations.add(field=name, description=description)
        status.details.add().Pack(bad)
    return status


@dataclass
class Kept:
    """One operation as the fake keeps it."""

    id: str
    metadata: ops.OperationMetadata
    response: Message | None = None
    error: status_pb2.Status | None = None

    def answer(self, service: str) -> operations_pb2.Operation:
        operation = operations_pb2.Operation(name=f"operations/{service}/{self.id}")
        operation.metadata.Pack(self.metadata)
        operation.done = self.metadata.state in FINAL
        if self.error is not None:
            operation.error.CopyFrom(self.error)
        elif self.response is not None:
            operation.response.Pack(self.response)
        return operation


@dataclass
class FakeService:
    """One service. Use it on the event loop of its gateway."""

    name: str
    tasks: dict[str, str]
    clock: Clock = lambda: datetime.now(UTC)
    kept: dict[str, Kept] = field(default_factory=dict)
    log: list[events_pb2.Event] = field(default_factory=list)
    first_kept: int = 0
    paused: set[str] = field(default_factory=set)
    #: By queue: operations of unknown tasks, and messages that no worker could run.
    parked: dict[str, tuple[int, int]] = field(default_factory=dict)
    discarded: set[str] = field(default_factory=set)
    workers: dict[str, admin_pb2.Worker] = field(default_factory=dict)
    by_request_id: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1 << 40)))

    @property
    def queues(self) -> list[str]:
        return sorted(set(self.tasks.values()))

    def accept(self, task: str, request: Message | None = None, **given: object) -> Kept:
        """A new operation; `given` are fields of its metadata, and `due_in` to schedule it."""
        due_in = given.pop("due_in", None)
        metadata = ops.OperationMetadata(
            state=ops.OPERATION_STATE_SCHEDULED if due_in else ops.OPERATION_STATE_QUEUED,
            task=task,
            queue=self.tasks[task],
            trace_id=secrets.token_hex(16),
            **{"priority": ops.PRIORITY_NORMAL, "max_attempts": 5, **given},
        )
        metadata.create_time.FromDatetime(self.clock())
        if due_in:
            metadata.schedule_time.FromDatetime(self.clock() + due_in)
        if isinstance(request, any_pb2.Any):
            metadata.request.CopyFrom(request)
        elif request is not None:
            metadata.request.Pack(request)
        kept = Kept(self._new_id(), metadata)
        self.kept[kept.id] = kept
        self._publish(kept, "accepted")
        return kept

    def begin(self, kept: Kept, worker: str = "") -> None:
        metadata = kept.metadata
        metadata.state = ops.OPERATION_STATE_RUNNING
        metadata.attempt += 1
        metadata.worker = worker or next(iter(self.workers), f"{self.name}@box:1")
        metadata.ClearField("schedule_time")
        attempt = metadata.attempts.add(number=metadata.attempt, worker=metadata.worker, span_id=secrets.token_hex(8))
        attempt.begin_time.FromDatetime(self.clock())
        if not metadata.HasField("start_time"):
            metadata.start_time.CopyFrom(attempt.begin_time)
        if metadata.worker in self.workers:
            self.workers[metadata.worker].operations.append(f"operations/{self.name}/{kept.id}")
        self._publish(kept, "began")

    def progress(self, kept: Kept, percent: int, message: str = "") -> None:
        kept.metadata.progress.percent = percent
        kept.metadata.progress.message = message
        self._publish(kept, "progressed")

    def succeed(self, kept: Kept, response: Message | None = None) -> None:
        kept.response = response or ops.Progress(percent=100, message="done")
        self._end_attempt(kept, ops.ATTEMPT_OUTCOME_SUCCEEDED)
        self._end(kept, ops.OPERATION_STATE_SUCCEEDED, "succeeded")

    def retry(self, kept: Kept, error: status_pb2.Status, after: timedelta, *, lost: bool = False) -> None:
        self._end_attempt(kept, ops.ATTEMPT_OUTCOME_LOST if lost else ops.ATTEMPT_OUTCOME_RETRIED, error)
        kept.metadata.state = ops.OPERATION_STATE_RETRYING
        kept.metadata.schedule_time.FromDatetime(self.clock() + after)
        self._publish(kept, "lost" if lost else "retried")

    def fail(self, kept: Kept, error: status_pb2.Status) -> None:
        kept.error = error
        self._end_attempt(kept, ops.ATTEMPT_OUTCOME_FAILED, error)
        self._end(kept, ops.OPERATION_STATE_FAILED, "failed")

    def cancel(self, kept: Kept) -> None:
        kept.error = a_status(code_pb2.CANCELLED, "the operation was cancelled", "CANCELLED")
        if kept.metadata.state == ops.OPERATION_STATE_RUNNING:
            self._end_attempt(kept, ops.ATTEMPT_OUTCOME_CANCELLED)
        self._end(kept, ops.OPERATION_STATE_CANCELLED, "cancelled")

    def publish_fact(self, event_type: str, subject: str) -> None:
        event = events_pb2.Event(type=event_type, subject=subject)
        event.traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        self._append(event)

    def newest_first(self) -> list[Kept]:
        return sorted(self.kept.values(), key=lambda each: each.metadata.create_time.ToNanoseconds(), reverse=True)

    def in_state(self, *states: int) -> list[Kept]:
        return [each for each in self.kept.values() if each.metadata.state in states]

    def dead_letters(self) -> list[Kept]:
        failed = self.in_state(ops.OPERATION_STATE_FAILED)
        letters = [each for each in failed if each.id not in self.discarded]
        return sorted(letters, key=lambda each: each.metadata.end_time.ToNanoseconds(), reverse=True)

    def forget_events(self) -> None:
        """No cursor given out so far is kept any more."""
        self.first_kept = len(self.log) + 1
        self.publish_fact(f"waybill.{self.name}.log.trimmed", "log")

    def _new_id(self) -> str:
        time = f"{int(self.clock().timestamp() * 1000):012x}"
        numbers = random.Random(f"{self.name}/{next(self._numbers)}")
        tail = f"{numbers.getrandbits(72):018x}"
        return f"{time[:8]}-{time[8:]}-7{tail[:3]}-8{tail[3:6]}-{tail[6:]}"

    def _end_attempt(self, kept: Kept, outcome: int, error: status_pb2.Status | None = None) -> None:
        name = f"operations/{self.name}/{kept.id}"
        worker = self.workers.get(kept.metadata.worker)
        if worker is not None and name in worker.operations:
            worker.operations.remove(name)
        attempt = kept.metadata.attempts[-1]
        attempt.outcome = outcome
        attempt.end_time.FromDatetime(self.clock())
        if error is not None:
            attempt.error.CopyFrom(error)
            kept.metadata.last_error.CopyFrom(error)

    def _end(self, kept: Kept, state: int, verb: str) -> None:
        kept.metadata.state = state
        kept.metadata.ClearField("schedule_time")
        kept.metadata.end_time.FromDatetime(self.clock())
        self._publish(kept, verb)

    def _publish(self, kept: Kept, verb: str) -> None:
        metadata = kept.metadata
        change = events_pb2.OperationChanged(
            operation=f"operations/{self.name}/{kept.id}",
            error_code=metadata.last_error.code,
            error_message=metadata.last_error.message[:300],
            **{name: getattr(metadata, name) for name in ("state", "task", "queue", "priority", "attempt", "worker")},
            **{name: getattr(metadata, name) for name in ("max_attempts", "trace_id", "parent")},
        )
        for name in ("progress", "create_time", "schedule_time"):
            if metadata.HasField(name):
                getattr(change, name).CopyFrom(getattr(metadata, name))
        event = events_pb2.Event(type=f"waybill.{self.name}.operation.{verb}", subject=change.operation)
        event.data.Pack(change)
        self._append(event)

    def _append(self, event: events_pb2.Event) -> None:
        event.id = f"{self.name}/{len(self.log) + 1}"
        event.source = f"/waybill/{self.name}"
        event.time.FromDatetime(self.clock())
        self.log.append(event)
        self._wake()

    def _wake(self) -> None:
        async def notify() -> None:
            async with self.changed:
                self.changed.notify_all()

        self._waking = asyncio.get_running_loop().create_task(notify())


class Refused(Exception):
    """Carries the Status that a call is answered with."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


class Servicer:
    """What all servicers share: the service, and errors as Status."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.service = gateway.service

    def find(self, name: str) -> Kept:
        kept = self.service.kept.get(name.rpartition("/")[2])
        if kept is None or name != f"operations/{self.service.name}/{kept.id}":
            raise Refused(a_status(code_pb2.NOT_FOUND, f"{name} does not exist", "OPERATION_NOT_FOUND"))
        return kept
