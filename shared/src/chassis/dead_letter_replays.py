"""Replays: dead letters accepted once more, one at a time or many at a rate."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from waybill.store.v1 import store_pb2

from chassis.acceptance import Provenance, new_operation_id, trace_of
from chassis.descriptions import StoredOperation, number, operation_name, record_of, text
from chassis.errors import ResourceExhausted
from chassis.logging import get_logger
from chassis.store_calls import Acceptance

log = get_logger(__name__)

R = TypeVar("R")

#: Mass replays of one gateway at a time.
AT_ONCE: Final = 4
BUSY_RETRY: Final = timedelta(seconds=10)


class MassReplays:
    """Those that this gateway does now. Each goes on when its client goes away, until it or the gateway ends."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def outliving(self, work: Coroutine[Any, Any, R]) -> R:
        """What the work answers. Raises ResourceExhausted, reason TOO_MANY_REPLAYS, beyond AT_ONCE."""
        if len(self._running) >= AT_ONCE:
            work.close()
            raise ResourceExhausted(
                f"{AT_ONCE} mass replays run already", reason="TOO_MANY_REPLAYS", retry_after=BUSY_RETRY
            )
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                log.info("replay.goes_on_without_client")
                task.add_done_callback(_tell)
            raise

    async def run(self) -> None:
        """Until cancelled; then what still runs ends where it is."""
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)


def _tell(task: asyncio.Task[Any]) -> None:
    if task.cancelled() or task.exception() is not None:
        log.warning("replay.stopped", error="" if task.cancelled() else str(task.exception()))


def replay(
    service: str,
    stored: StoredOperation,
    edited: AnyMessage | None,
    provenance: Provenance,
    request_id: str,
) -> Acceptance:
    """The original once more: same task, queue, priority and labels. Unedited, it shares the original's effects."""
    original = record_of(stored)
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
