"""Dead letters: FAILED operations kept for inspection and replay."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from grpc import aio
from sqlalchemy.exc import SQLAlchemyError
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

from chassis import archive_calls, paging
from chassis.acceptance import Provenance
from chassis.dead_letter_replays import MassReplays, replay
from chassis.descriptions import (
    StoredOperation,
    attempts_of,
    dead_letter_group,
    metadata_of,
    number,
    operation_name,
    record_of,
    timestamp,
)
from chassis.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound, Violations
from chassis.facts import plain
from chassis.history import Archive
from chassis.listing import Filter, Page, list_page, parse_filter
from chassis.logging import get_logger
from chassis.operations import Operations, mark_projected, provenance_of_call
from chassis.payload_patch import patched
from chassis.redaction import redacted, unredacted
from chassis.store import AsyncStore
from chassis.store_calls import Acceptance, Verdict, id_of

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

log = get_logger(__name__)

#: Most dead letters of the store that are counted by group.
GROUP_LIMIT: Final = 10_000
#: Dead letters that a mass replay looks at in one page.
LOOK_AT: Final = 1_000
REPLAY_LIMIT: Final = 1_000
DISCARD_DEFAULT: Final = 1_000
DISCARD_LIMIT: Final = 10_000
#: Discarded in one call of the store.
DISCARD_CHUNK: Final = 500


class DeadLetterServicer(admin_pb2_grpc.DeadLetterServiceServicer):
    """List, get, replay, discard."""

    def __init__(self, app: ServiceApp, operations: Operations) -> None:
        self._app = app
        self._operations = operations
        self._store = operations.store
        self._archive = operations.archive
        self.replays = MassReplays()

    async def ListDeadLetters(
        self, request: admin_pb2.ListDeadLettersRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListDeadLettersResponse:
        size = paging.size(request.page_size, 50, 1000)
        wanted = in_group(request.group, parse_filter(request.filter))
        page = await self._page(wanted, size=size, token=request.page_token)
        groups = await all_groups(self._store, self._archive)
        return admin_pb2.ListDeadLettersResponse(
            dead_letters=[self._letter(stored) for stored in page.operations],
            next_page_token=page.next_page_token,
            groups=groups,
            total=sum(group.count for group in groups),
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
        original = record_of(stored)
        if edited is not None and edited.type_url != original.request.type_url:
            wanted = original.request.type_url.rpartition("/")[2]
            raise InvalidArgument([FieldViolation("edited_request", f"must be a {wanted}")])
        if edited is not None:
            edited = unredacted(edited, original.request, "edited_request")
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
        wanted = not_replayed(in_group(request.group, parse_filter(request.filter)))
        patch = request.payload_patch if request.HasField("payload_patch") else None
        letters = await self._oldest(wanted, request.limit or REPLAY_LIMIT)
        payloads = {
            record.id: patched(record.request, patch, "payload_patch") if patch else None
            for record in map(record_of, letters)
        }
        return await self.replays.outliving(self._replay_all(payloads, request.rate))

    async def _replay_all(
        self, payloads: Mapping[str, AnyMessage | None], rate: float
    ) -> admin_pb2.ReplayDeadLettersResponse:
        """`payloads`: what to run, by the original's id; None: the original's. Passes over what no longer wants it."""
        answer, loop = admin_pb2.ReplayDeadLettersResponse(), asyncio.get_running_loop()
        begun = loop.time()
        for place, (operation_id, payload) in enumerate(payloads.items()):
            if rate:
                await asyncio.sleep(begun + place / rate - loop.time())
            if (stored := await self._still_dead(operation_id)) is not None:
                operation = await self._replay_once(stored, payload)
                answer.operations.extend([] if operation is None else [operation])
        return answer

    async def _still_dead(self, operation_id: str) -> StoredOperation | None:
        """None for what was replayed, discarded or deleted meanwhile."""
        try:
            stored = await self._operations.stored(operation_id)
        except NotFound:
            return None
        return stored if dead_letter_group(stored) and b"rep" not in stored else None

    async def DiscardDeadLetter(
        self, request: admin_pb2.DiscardDeadLetterRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.DiscardDeadLetterResponse:
        await self._discard([record_of(await self._dead(request.operation)).id])
        return admin_pb2.DiscardDeadLetterResponse()

    async def DiscardDeadLetters(
        self, request: admin_pb2.DiscardDeadLettersRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.DiscardDeadLettersResponse:
        """A call that ends early has discarded the oldest; the same call once more goes on."""
        found = Violations()
        found.require(
            0 <= request.limit <= DISCARD_LIMIT, "limit", f"must be 1 to {DISCARD_LIMIT}, or 0 for {DISCARD_DEFAULT}"
        )
        found.raise_if_any()
        wanted = in_group(request.group, parse_filter(request.filter))
        ids = [record_of(stored).id for stored in await self._oldest(wanted, request.limit or DISCARD_DEFAULT)]
        discarded = 0
        for begin in range(0, len(ids), DISCARD_CHUNK):
            discarded += await self._discard(ids[begin : begin + DISCARD_CHUNK])
        return admin_pb2.DiscardDeadLettersResponse(discarded=discarded)

    async def _discard(self, operation_ids: list[str]) -> int:
        """How many of them were dead letters."""
        answers = await self._store.run(archive_calls.discard(operation_ids))
        discarded = {id_ for id_, answer in zip(operation_ids, answers, strict=True) if answer == "discarded"}
        if self._archive is not None:
            discarded |= await asyncio.to_thread(self._archive.discard, operation_ids)
        return len(discarded)

    async def _oldest(self, wanted: Filter, limit: int) -> list[StoredOperation]:
        """The oldest dead letters that are wanted."""
        oldest: deque[StoredOperation] = deque(maxlen=limit)
        token = ""
        while True:
            page = await self._page(wanted, size=LOOK_AT, token=token)
            oldest.extend(page.operations)
            token = page.next_page_token
            if not token:
                return list(reversed(oldest))

    async def _page(self, wanted: Filter, *, size: int, token: str) -> Page:
        return await list_page(self._store, "dead", wanted, size=size, token=token, archive=self._archive)

    async def _dead(self, name: str) -> StoredOperation:
        """Raises InvalidArgument, NotFound or FailedPrecondition."""
        prefix = f"operations/{self._app.service}/"
        if not name.startswith(prefix):
            raise InvalidArgument([FieldViolation("operation", f"must be {prefix}<id>, is {name!r}")])
        stored = await self._operations.stored(name.removeprefix(prefix))
        if number(stored, b"st") != ops.OPERATION_STATE_FAILED:
            raise FailedPrecondition(f"{name} is no dead letter: it has not failed", reason="NOT_A_DEAD_LETTER")
        if not dead_letter_group(stored):
            raise NotFound(f"{name} has been discarded", reason="DEAD_LETTER_NOT_FOUND", metadata={"operation": name})
        return stored

    async def _replay(
        self, stored: StoredOperation, request_id: str, edited: AnyMessage | None, provenance: Provenance
    ) -> operations_pb2.Operation:
        item = replay(self._app.service, stored, edited, provenance, request_id)
        verdict = await self._accept(item, provenance)
        return await self._operations.answer(item, verdict)

    async def _replay_once(self, stored: StoredOperation, edited: AnyMessage | None) -> operations_pb2.Operation | None:
        """None where another mass replay was quicker."""
        provenance = provenance_of_call(server=False)
        item = replay(self._app.service, stored, edited, provenance, "")
        item = dataclasses.replace(item, idempotency_scope=f"mass-replay\0{id_of(item.record.replayed_from)}")
        verdict = await self._accept(item, provenance)
        return None if verdict.verdict in {"same", "reused"} else await self._operations.answer(item, verdict)

    async def _accept(self, item: Acceptance, provenance: Provenance) -> Verdict:
        self._operations.admit()
        (verdict,) = await self._operations.commit([item])
        if verdict.verdict == "accepted":
            mark_projected(provenance)
            await self._note_replay(id_of(item.record.replayed_from), verdict.operation_id)
        return verdict

    async def _note_replay(self, original: str, replay: str) -> None:
        """So that the archive shows it at once. What cannot be noted now, the archivist notes: the store remembers."""
        if self._archive is None:
            return
        try:
            await asyncio.to_thread(self._archive.note_replays, {original: replay})
        except SQLAlchemyError as error:
            log.warning("replay.noted_later", operation_id=original, error=str(error))

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
            group=dead_letter_group(stored),
        )


def in_group(group: str, wanted: Filter) -> Filter:
    """Those of them that are of a group; all where it is empty."""
    if not group:
        return wanted
    return Filter(
        lambda stored: dead_letter_group(stored) == group and wanted.matches(stored),
        dataclasses.replace(wanted.selection, group=plain(group)),
    )


def not_replayed(wanted: Filter) -> Filter:
    """Those of them that no operation replays."""
    return Filter(
        lambda stored: b"rep" not in stored and wanted.matches(stored),
        dataclasses.replace(wanted.selection, not_replayed=True),
    )


async def all_groups(store: AsyncStore, archive: Archive | None) -> list[admin_pb2.DeadLetterGroup]:
    """The groups of the archive and of the GROUP_LIMIT newest in the store; the largest group first."""
    counts, newest = Counter[str](), dict[str, int]()
    live = await _live_groups(store)
    if archive is not None:
        in_both = await asyncio.to_thread(archive.groups_of, list(live))
        for group in await asyncio.to_thread(archive.groups):
            counts[group.name], newest[group.name] = group.count, group.newest_us
        counts.subtract(in_both.values())
    for group_name, end_us in live.values():
        counts[group_name] += 1
        newest[group_name] = max(end_us, newest.get(group_name, 0))
    return [_group(name, count, newest[name]) for name, count in counts.most_common() if count > 0]


async def _live_groups(store: AsyncStore) -> dict[str, tuple[str, int]]:
    """Group and end of each dead letter in the store, by its id."""
    newest_first = await store.client.zrevrange(store.keys.named("dead"), 0, GROUP_LIMIT - 1)
    ids = [member.decode() for member in newest_first]
    pipeline = store.client.pipeline(transaction=False)
    for operation_id in ids:
        pipeline.hmget(store.keys.operation(operation_id), *_GROUPED_BY)
    facts = [dict(zip(_GROUPED_BY, values, strict=True)) for values in (await pipeline.execute() if ids else [])]
    known = [{field: value for field, value in fields.items() if value is not None} for fields in facts]
    return {
        operation_id: (dead_letter_group(stored), number(stored, b"et"))
        for operation_id, stored in zip(ids, known, strict=True)
        if dead_letter_group(stored)
    }


_GROUPED_BY: Final = (b"st", b"task", b"er", b"et", b"dis")


def _group(name: str, count: int, newest_us: int) -> admin_pb2.DeadLetterGroup:
    task, _, reason = name.rpartition("/")
    return admin_pb2.DeadLetterGroup(
        group=name, task=task, reason=reason, count=count, newest_time=timestamp(newest_us)
    )
