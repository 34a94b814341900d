"""Accepting operations: what a gateway, a subscriber or a ticker asks of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis import store_calls
from chassis.accept_batching import AcceptBatcher
from chassis.acceptance import Acceptable, Provenance, Submission, acceptance
from chassis.admission import Admission
from chassis.call import Call, current_call
from chassis.descriptions import describe, operation_name, timestamp
from chassis.errors import (
    Cancelled,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    WaybillError,
)
from chassis.history import Archive
from chassis.instruments import ACCEPTANCES
from chassis.redaction import redacted
from chassis.statuses import to_status
from chassis.store import AsyncStore
from chassis.store_calls import Acceptance, Verdict
from chassis.telemetry import now_us

__all__ = ["Operations", "Submission"]

QUEUE_FULL_RETRY: Final = timedelta(seconds=5)
NOT_REPLICATED_RETRY: Final = timedelta(seconds=1)
#: Operations of a batch that share a call to the store.
CHUNK: Final = 125


class ServiceName(Protocol):
    """What is needed of a ServiceApp here."""

    @property
    def service(self) -> str: ...
    @property
    def queue_bound(self) -> int: ...


class Operations:
    """The operations of one service."""

    def __init__(
        self,
        store: AsyncStore,
        app: ServiceName,
        *,
        archive: Archive | None = None,
        admission: Admission | None = None,
        replicas: int = 0,
    ) -> None:
        self.store = store
        self.app = app
        self.archive = archive
        self.admission = admission
        #: How many must have confirmed an acceptance before it is answered.
        self.replicas = replicas
        self._batcher = AcceptBatcher(self.commit)

    @property
    def service(self) -> str:
        return self.app.service

    async def accept(
        self,
        task: Acceptable,
        request: Message,
        *,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> operations_pb2.Operation:
        """Accept one operation in one round trip.

        Raises InvalidArgument for bad submit options or a request_id that was used for another payload,
        and ResourceExhausted when the queue or the store is full.
        """
        self.admit()
        submission = Submission(task, request, request_id=request_id or "", labels=labels or {})
        provenance = provenance_of_call(server=True)
        item = acceptance(submission, provenance)
        verdict = await self._batcher.accept(item)
        if verdict.verdict == "accepted":
            mark_projected(provenance)
        return await self.answer(item, verdict)

    async def accept_many(
        self, submissions: Sequence[Submission], *, method: str = ""
    ) -> list[operations_pb2.Operation | status_pb2.Status]:
        """Accept each by itself; an operation or an error for each, in order.

        While one chunk is on its way the next is made ready. `method` scopes the request_ids where no RPC is served.
        """
        provenance = provenance_of_call(server=False, method=method)
        items: list[Acceptance | WaybillError] = []
        commits: list[asyncio.Task[list[Verdict]]] = []
        try:
            for begin in range(0, len(submissions), CHUNK):
                chunk = [self._prepared(submission, provenance) for submission in submissions[begin : begin + CHUNK]]
                items += chunk
                sound = [item for item in chunk if isinstance(item, Acceptance)]
                if sound:
                    commits.append(asyncio.create_task(self.commit(sound)))
                    await asyncio.sleep(0)
            verdicts = [verdict for commit in commits for verdict in await commit]
        finally:
            for commit in commits:
                commit.cancel()
        return await self._answers(items, iter(verdicts))

    async def _answers(
        self, items: list[Acceptance | WaybillError], verdicts: Iterator[Verdict]
    ) -> list[operations_pb2.Operation | status_pb2.Status]:
        answers: list[operations_pb2.Operation | status_pb2.Status] = []
        for item in items:
            if isinstance(item, WaybillError):
                answers.append(to_status(item, self.service))
                continue
            try:
                answers.append(await self.answer(item, next(verdicts)))
            except WaybillError as error:
                answers.append(to_status(error, self.service))
        return answers

    async def commit(self, items: list[Acceptance]) -> list[Verdict]:
        """Accept in one call. Raises Unavailable, reason NOT_REPLICATED, where too few replicas have confirmed it.

        The operations may be there then; a repeat with the same request_id finds them.
        """
        call = store_calls.accept(items, bound=self.app.queue_bound)
        if not self.replicas:
            return _counted(items, await self.store.run(call))
        verdicts, confirmed = await self.store.run_replicated(call, self.replicas)
        if confirmed < self.replicas:
            raise Unavailable(
                f"{confirmed} of {self.replicas} replicas have confirmed the acceptance in time; it may have happened",
                reason="NOT_REPLICATED",
                retry_after=NOT_REPLICATED_RETRY,
            )
        return _counted(items, verdicts)

    async def get(self, operation_id: str, *, brief: bool = False) -> operations_pb2.Operation:
        """Raises NotFound, reason OPERATION_NOT_FOUND."""
        return describe(self.service, await self.stored(operation_id), brief=brief)

    async def stored(self, operation_id: str) -> Mapping[bytes, bytes]:
        """The store's hash, or the archive's. Raises NotFound as `get` does."""
        found: Mapping[bytes, bytes] | None = await self.store.client.hgetall(self.store.keys.operation(operation_id))
        if not found or b"rec" not in found:
            found = await self._archived(operation_id)
        if found is None:
            raise unknown_operation(self.service, operation_id)
        return found

    async def cancel(self, operation_id: str) -> None:
        """Cancel it and what it fanned out to. Ended operations stay as they are. Raises NotFound as `get` does."""
        (answer,) = await self.store.run(store_calls.cancel([operation_id]))
        if answer.verdict == "unknown" and await self._archived(operation_id) is None:
            raise unknown_operation(self.service, operation_id)

    async def delete(self, operation_id: str) -> None:
        """Forget an operation that has ended. Raises NotFound as `get` does, FailedPrecondition for a live one."""
        (answer,) = await self.store.run(store_calls.delete([operation_id]))
        if answer == "live":
            name = operation_name(self.service, operation_id)
            raise FailedPrecondition(f"{name} has not ended; cancel it first", reason="OPERATION_NOT_ENDED")
        was_live = answer == "deleted"
        there = False
        if self.archive is not None:
            there = await asyncio.to_thread(self.archive.delete, operation_id, was_live=was_live)
        if not (was_live or there):
            raise unknown_operation(self.service, operation_id)

    async def _archived(self, operation_id: str) -> Mapping[bytes, bytes] | None:
        return None if self.archive is None else await asyncio.to_thread(self.archive.get, operation_id)

    async def _first(self, operation_id: str) -> operations_pb2.Operation:
        """The operation of an earlier request; only its name once it is kept no longer."""
        try:
            return await self.get(operation_id)
        except NotFound:
            return operations_pb2.Operation(name=operation_name(self.service, operation_id), done=True)

    def admit(self) -> None:
        """Raises ResourceExhausted while the store is too full for new work."""
        if self.admission is not None:
            self.admission.check()

    def _prepared(self, submission: Submission, provenance: Provenance) -> Acceptance | WaybillError:
        try:
            self.admit()
            return acceptance(submission, provenance)
        except WaybillError as error:
            return error

    async def answer(self, item: Acceptance, verdict: Verdict) -> operations_pb2.Operation:
        """What the client is told of an acceptance. Raises for every verdict but accepted and same."""
        match verdict.verdict:
            case "accepted":
                return describe_accepted(self.service, item)
            case "same":
                return await self._first(verdict.operation_id)
            case "reused":
                raise request_id_reused(self.service, verdict.operation_id)
            case "full":
                raise ResourceExhausted(
                    f"queue {item.queue} is full: {self.app.queue_bound} operations are due",
                    reason="QUEUE_FULL",
                    retry_after=QUEUE_FULL_RETRY,
                    metadata={"queue": item.queue},
                )
            case _:
                raise Cancelled("the parent operation runs no more", reason="PARENT_ENDED")


def _counted(items: Sequence[Acceptance], verdicts: list[Verdict]) -> list[Verdict]:
    for item, verdict in zip(items, verdicts, strict=True):
        ACCEPTANCES.add(item.record.task, item.queue, verdict.verdict)
    return verdicts


def provenance_of_call(*, server: bool, method: str = "") -> Provenance:
    """The RPC that is being served; `server`: the operation's record is to carry its span."""
    call = current_call.get()
    if call is None:
        return Provenance(principal="", method=method)
    span = None
    if server and not call.projected:
        span = store_pb2.ServerSpan(method=call.method, start_time_us=call.start_us, parent_span_id=call.parent_span_id)
    return Provenance(call.principal, call.method, call.context, span)


def mark_projected(provenance: Provenance) -> None:
    call: Call | None = current_call.get()
    if call is not None and provenance.server is not None:
        call.projected = True


def describe_accepted(service: str, item: Acceptance) -> operations_pb2.Operation:
    """The operation as it stands right after acceptance, without asking the store again."""
    record = item.record
    scheduled = item.due_us > now_us()
    metadata = ops.OperationMetadata(
        state=ops.OPERATION_STATE_SCHEDULED if scheduled else ops.OPERATION_STATE_QUEUED,
        task=record.task,
        queue=item.queue,
        priority=item.priority,  # type: ignore[arg-type]
        max_attempts=item.max_attempts,
        create_time=timestamp(now_us()),
        trace_id=record.trace.trace_id.hex(),
        request_id=record.request_id,
        labels=record.labels,
        parent=record.parent,
        replayed_from=record.replayed_from,
        request=redacted(record.request),
    )
    if scheduled:
        metadata.schedule_time.CopyFrom(timestamp(item.due_us))
    if record.expire_time_us:
        metadata.expire_time.CopyFrom(timestamp(record.expire_time_us))
    operation = operations_pb2.Operation(name=operation_name(service, record.id))
    operation.metadata.Pack(metadata)
    return operation


def unknown_operation(service: str, operation_id: str) -> NotFound:
    name = operation_name(service, operation_id)
    return NotFound(
        f"{name} does not exist, or is no longer kept", reason="OPERATION_NOT_FOUND", metadata={"operation": name}
    )


def request_id_reused(service: str, operation_id: str) -> InvalidArgument:
    name = operation_name(service, operation_id)
    return InvalidArgument(
        [FieldViolation("request_id", f"was used for {name} with another payload within the last 24 hours")],
        reason="REQUEST_ID_REUSED",
        metadata={"operation": name},
    )
