"""EventService: the event log as a stream for other services, the dashboard and `watch`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Final

from grpc import aio
from waybill.events.v1 import events_pb2, events_pb2_grpc

from chassis.event_log import EventLog, type_filter

HEARTBEAT_SECONDS: Final = 15.0


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Streams this service's events."""

    def __init__(self, service: str, log: EventLog) -> None:
        self._service = service
        self._log = log

    async def Subscribe(
        self, request: events_pb2.SubscribeRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[events_pb2.SubscribeResponse]:
        cursor = request.cursor or await self._log.end()
        if request.cursor:
            await self._log.check(request.cursor)
        wanted = type_filter(list(request.types))
        yield events_pb2.SubscribeResponse(cursor=cursor)
        sent_at = time.monotonic()
        # Events that are not wanted must not keep the heartbeat away.
        async for entry in self._log.follow(cursor, patience=HEARTBEAT_SECONDS / 5):
            cursor = entry.cursor if entry else cursor
            if entry and wanted(entry.type_of(self._service)):
                yield events_pb2.SubscribeResponse(event=entry.event(self._service), cursor=cursor)
            elif time.monotonic() - sent_at >= HEARTBEAT_SECONDS:
                yield events_pb2.SubscribeResponse(cursor=cursor)
            else:
                continue
            sent_at = time.monotonic()
