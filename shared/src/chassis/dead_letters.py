"""Dead letters: FAILED operations kept for inspection and replay."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from grpc import aio
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis import paging, store_calls
from chassis.acceptance import Provenance, new_operation_id, trace_of
from chassis.descriptions import (
    StoredOperation,
    attempts_of,
    metadata_of,
    number,
    operation_name,
    record_of,
    text,
    timestamp,
)
from chassis.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound, Violations
from chassis.listing import list_page
from chassis.operations import Operations, mark_projected, provenance_of_call
from chassis.redaction import redacted, unredacted
from chassis.store_calls import Acceptance, id_of

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

GROUP_LIMIT: Final = 10_000
REPLAY_LIMIT: Final = 1_000


class DeadLetterServicer(admin_pb2_grpc.DeadLetterServiceServicer):
    """List, get, replay, discard."""

    def __init__(self, app: ServiceApp, operations: Operations) -> None:
        self._app = app
        self._operations = operations
        self._store = operations.store

    async def ListDeadLetters(
        self, request: admin_pb2.ListDeadLettersRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListDeadLettersResponse:
        size = paging.size(request.page_size, 50, 1000)
        page = await list_page(
            self._store,
            "dead",
            lambda stored: request.group in {"", group_of(stored)},
            size=size,
            token=request.page_token,
        )
        everything = await list_page(self._store, "dead", lambda _: True, size=GROUP_LIMIT, token="")
        return admin_pb2.ListDeadLettersResponse(
            dead_letters=[self._letter(stored) for stored in page.operations],
            next_page_token=page.next_page_token,
            groups=groups_of(everything.operations),
            total=await self._store.client.zcard(self._store.keys.named("dead")),
        )

    async def GetDeadLetter(
        self, request: admin_pb2.GetDeadLetterRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.DeadLetter:
        stored = await self._dead(request.operation)
        letter = self._letter(stored)
        letter.request.CopyFrom(redacted(record_of(stored).request))
        letter.attempt_log.extend(attempts_of(self._app.service, stored))
        return letter

    async def ReplayDeadLetter(
        self, request: admin_pb2.ReplayDeadLetterRequest, context: aio.ServicerContext[Any, Any]
    ) -> operations_pb2.Operation:
        stored = await self._dead(request.operation)
        edited = request.edited_request if request.HasField("edited_request") else None
        return await self._replay(stored, request.request_id, edited, provenance_of_call(server=True))

    async def ReplayDeadLetters(
        self, request: admin_pb2.ReplayDeadLettersRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ReplayDeadLettersResponse:
        found = Violations()
        found.require(
            0 <= request.limit <= REPLAY_LIMIT, "limit", f"must be 1 to {REPLAY_LIMIT}, or 0 for {REPLAY_LIMIT}"
        )
        found.require(request.rate >= 0, "rate", "must be positive, or 0 for no limit")
        found.raise_if_any()
        answer = admin_pb2.ReplayDeadLettersResponse()
        for stored in await self._not_replayed(request.group, request.limit or REPLAY_LIMIT):
            answer.operations.append(await self._replay(stored, "", None, provenance_of_call(server=False)))
            if request.rate:
                await asyncio.sleep(1 / request.rate)
        return answer

    async def DiscardDeadLetter(
        self, request: admin_pb2.DiscardDeadLetterRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.DiscardDeadLetterResponse:
        stored = await self._dead(request.operation)
        await self._store.client.zrem(self._store.keys.named("dead"), record_of(stored).id)
        return admin_pb2.DiscardDeadLetterResponse()

    async def _not_replayed(self, group: str, limit: int) -> list[StoredOperation]:
        """The oldest of the group, or of all, that have not been replayed."""
        oldest: deque[StoredOperation] = deque(maxlen=limit)
        token = ""
        while True:
            page = await list_page(
                self._store,
                "dead",
                lambda stored: group in {"", group_of(stored)} and b"rep" not in stored,
                size=GROUP_LIMIT,
                token=token,
            )
            oldest.extend(page.operations)
            token = page.next_page_token
            if not token:
                return list(reversed(oldest))

    async def _dead(self, name: str) -> StoredOperation:
        """Raises InvalidArgument, NotFound or FailedPrecondition."""
        prefix = f"operations/{self._app.service}/"
        if not name.startswith(prefix):
            raise InvalidArgument([FieldViolation("operation", f"must be {prefix}<id>, is {name!r}")])
        stored = await self._operations.stored(name.removeprefix(prefix))
        if await self._store.client.zscore(self._store.keys.named("dead"), id_of(name)) is None:
            if number(stored, b"st") == ops.OPERATION_STATE_FAILED:
                raise NotFound(
                    f"{name} has been discarded", reason="DEAD_LETTER_NOT_FOUND", metadata={"operation": name}
                )
            raise FailedPrecondition(f"{name} is no dead letter: it has not failed", reason="NOT_A_DEAD_LETTER")
        return stored

    async def _replay(
        self, stored: StoredOperation, request_id: str, edited: AnyMessage | None, provenance: Provenance
    ) -> operations_pb2.Operation:
        original = record_of(stored)
        if edited is not None and edited.type_url != original.request.type_url:
            wanted = original.request.type_url.rpartition("/")[2]
            raise InvalidArgument([FieldViolation("edited_request", f"must be a {wanted}")])
        if edited is not None:
            edited = unredacted(edited, original.request, "edited_request")
        item = replay(self._app.service, stored, original, edited, provenance, request_id)
        (verdict,) = await self._store.run(store_calls.accept([item], bound=self._app.queue_bound))
        if verdict.verdict == "accepted":
            mark_projected(provenance)
        return await self._operations.answer(item, verdict)

    def _letter(self, stored: StoredOperation) -> admin_pb2.DeadLetter:
        metadata = metadata_of(self._app.service, stored, record_of(stored), brief=True)
        return admin_pb2.DeadLetter(
            operation=operation_name(self._app.service, record_of(stored).id),
            task=metadata.task,
            queue=metadata.queue,
            attempts=metadata.attempt,
            error=metadata.last_error,
            create_time=metadata.create_time,
            end_time=metadata.end_time,
            trace_id=metadata.trace_id,
            replayed_by=metadata.replayed_by,
            group=group_of(stored),
        )


def replay(
    service: str,
    stored: StoredOperation,
    original: store_pb2.OperationRecord,
    edited: AnyMessage | None,
    provenance: Provenance,
    request_id: str,
) -> Acceptance:
    """The original once more: same task, queue, priority and labels. Unedited, it shares the original's effects."""
    record = store_pb2.OperationRecord()
    record.CopyFrom(original)
    record.id = new_operation_id()
    record.root, record.parent = record.id, ""
    record.request_id = request_id
    record.replayed_from = operation_name(service, original.id)
    record.expire_time_us = 0
    record.principal = provenance.principal
    record.trace.CopyFrom(trace_of(provenance))
    record.trace.links.add(trace_id=original.trace.trace_id, span_id=original.trace.send_span_id)
    if edited is not None:
        record.request.CopyFrom(edited)
        record.effect_id = record.id
    scope = f"{provenance.principal}\0replay/{original.id}\0{request_id}" if request_id else ""
    return Acceptance(
        record=record,
        queue=text(stored, b"q"),
        priority=number(stored, b"pr"),
        max_attempts=number(stored, b"max"),
        keep_success=timedelta(microseconds=number(stored, b"ks")),
        keep_failure=timedelta(microseconds=number(stored, b"kf")),
        idempotency_scope=scope,
    )


def group_of(stored: StoredOperation) -> str:
    """Dead letters of one group failed alike: task and reason."""
    return f"{text(stored, b'task')}/{text(stored, b'er') or 'UNKNOWN'}"


def groups_of(letters: Sequence[StoredOperation]) -> list[admin_pb2.DeadLetterGroup]:
    """The groups of dead letters that come newest first; the largest group first."""
    counts = Counter(group_of(stored) for stored in letters)
    newest: dict[str, StoredOperation] = {}
    for stored in letters:
        newest.setdefault(group_of(stored), stored)
    return [
        admin_pb2.DeadLetterGroup(
            group=group,
            task=text(newest[group], b"task"),
            reason=text(newest[group], b"er") or "UNKNOWN",
            count=count,
            newest_time=timestamp(number(newest[group], b"et")),
        )
        for group, count in counts.most_common()
    ]
