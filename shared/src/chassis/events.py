"""EventService: the event log as a stream for other services, the dashboard and `watch`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from grpc import aio
from waybill.events.v1 import events_pb2, events_pb2_grpc

from chassis.errors import FieldViolation, InvalidArgument
from chassis.event_log import Entry, EventLog, is_cursor, type_filter

HEARTBEAT_SECONDS: Final = 15.0
MAX_INTERVAL: Final = timedelta(seconds=5)
#: A batch that has grown to so much is sent; gRPC refuses messages of more than four megabytes.
BATCH_BYTES: Final = 500_000
#: What an event takes beside its data.
ATTRIBUTES_BYTES: Final = 400


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Streams this service's events."""

    def __init__(self, service: str, log: EventLog) -> None:
        self._service = service
        self._log = log

    async def Subscribe(
        self, request: events_pb2.SubscribeRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[events_pb2.SubscribeResponse]:
        if violations := list(_violations(request)):
            raise InvalidArgument(violations)
        cursor = request.cursor or await self._log.end()
        if request.cursor:
            await self._log.check(request.cursor)
        wanted = type_filter(list(request.types))
        min_interval = request.min_interval.ToTimedelta().total_seconds()
        yield events_pb2.SubscribeResponse(cursor=cursor)
        sent_at = time.monotonic()
        # Events that are not wanted must not keep the heartbeat away.
        async for entries in self._log.follow(cursor, patience=HEARTBEAT_SECONDS / 5, min_interval=min_interval):
            found = [entry for entry in entries if wanted(entry.type_of(self._service))]
            for answer in batches(self._service, found) if request.HasField("min_interval") else self._each(found):
                sent_at = time.monotonic()
                yield answer
            cursor = entries[-1].cursor if entries else cursor
            if time.monotonic() - sent_at >= HEARTBEAT_SECONDS:
                sent_at = time.monotonic()
                yield events_pb2.SubscribeResponse(cursor=cursor)

    def _each(self, entries: Iterable[Entry]) -> Iterator[events_pb2.SubscribeResponse]:
        for entry in entries:
            answer = events_pb2.SubscribeResponse(cursor=entry.cursor)
            entry.write(self._service, answer.event)
            yield answer


def batches(service: str, entries: Iterable[Entry]) -> Iterator[events_pb2.SubscribeResponse]:
    """The events of the entries in as few answers as their size allows."""
    batch, size = events_pb2.SubscribeResponse(), 0
    for entry in entries:
        answer = batch.batch.add(cursor=entry.cursor)
        entry.write(service, answer.event)
        batch.cursor = entry.cursor
        size += len(answer.event.data.value) + ATTRIBUTES_BYTES
        if size >= BATCH_BYTES:
            yield batch
            batch, size = events_pb2.SubscribeResponse(), 0
    if batch.batch:
        yield batch


def _violations(request: events_pb2.SubscribeRequest) -> Iterator[FieldViolation]:
    if request.cursor and not is_cursor(request.cursor):
        yield FieldViolation("cursor", "is not a cursor that this service gave out")
    seconds = request.min_interval.seconds + request.min_interval.nanos / 1e9
    if not 0 <= seconds <= MAX_INTERVAL.total_seconds():
        yield FieldViolation("min_interval", f"is {seconds:g} s, and must be from 0 to {MAX_INTERVAL.seconds} s")
