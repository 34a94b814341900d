"""Follows the event log and exports the engine's spans. One exporter a service is active; any gateway may be it."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from chassis import store_calls
from chassis.event_log import READ_COUNT, Entry, EventLog
from chassis.logging import get_logger
from chassis.otlp_wire import span_bytes
from chassis.projection import spans_of
from chassis.span_sink import SpanSink
from chassis.store import AsyncStore

log = get_logger(__name__)

#: Who exports holds this key; it runs out when they die.
TURN_SECONDS: Final = 10
BATCH_WAIT_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 2.0


class SpanExporter:
    """At least once: the cursor moves after the receiver has taken a batch. A repeat has the same span ids."""

    def __init__(self, service: str, store: AsyncStore, log: EventLog, sink: SpanSink) -> None:
        self._service = service
        self._store = store
        self._log = log
        self._sink = sink
        self._identity = secrets.token_hex(8)

    async def run(self) -> None:
        """Export while it is this gateway's turn, until cancelled. Raises RedisError in an outage."""
        if not self._sink.settings.endpoint:
            return
        while True:
            if await self._take_turn():
                await self._export_until_lost()
            await asyncio.sleep(TURN_SECONDS / 3)

    async def _take_turn(self) -> bool:
        key = self._store.keys.named("spans:turn")
        if await self._store.run(store_calls.write("SET", "spans:turn", self._identity, "NX", "EX", TURN_SECONDS)):
            return True
        if await self._store.client.get(key) == self._identity.encode():
            return bool(await self._store.client.expire(key, TURN_SECONDS))
        return False

    async def _export_until_lost(self) -> None:
        cursor = (await self._store.client.get(self._store.keys.named("spans:cursor")) or b"0-0").decode()
        while await self._take_turn():
            turn_until = asyncio.get_running_loop().time() + TURN_SECONDS / 3
            while asyncio.get_running_loop().time() < turn_until:
                entries = await self._log.read(cursor)
                if entries and not await self._export(entries):
                    return
                cursor = entries[-1].cursor if entries else cursor
                if len(entries) < READ_COUNT:
                    await asyncio.sleep(BATCH_WAIT_SECONDS)

    async def _export(self, entries: list[Entry]) -> bool:
        """Whether the receiver has taken them, however long that took; False when the turn was lost meanwhile."""
        spans = [span for entry in entries for span in self._spans_of(entry)]
        while spans:
            try:
                await asyncio.to_thread(self._sink.send, spans)
                break
            except grpc.RpcError as error:
                log.warning("spans.waiting", count=len(spans), code=str(error.code()))
                await asyncio.sleep(RETRY_SECONDS)
                if not await self._take_turn():
                    return False
        await self._store.run(store_calls.write("SET", "spans:cursor", entries[-1].cursor))
        return True

    def _spans_of(self, entry: Entry) -> list[bytes]:
        """None of an entry that cannot be read, as one of another version: it must not hold up all that follow."""
        try:
            return [span_bytes(span) for span in spans_of(self._service, entry)]
        except (KeyError, ValueError, DecodeError) as error:
            log.error("spans.unreadable", cursor=entry.cursor, error=repr(error))  # noqa: TRY400 (the entry is at fault)
            return []
