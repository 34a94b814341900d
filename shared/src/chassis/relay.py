"""Publishes what a service's database owes: at once for the attempt that owes it, by sweep for what is left over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Final

import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from waybill.events.v1 import events_pb2
from waybill.store.v1 import store_pb2

from chassis import outbox, store_calls
from chassis.descriptions import timestamp
from chassis.logging import get_logger
from chassis.outbox import OwedEvent
from chassis.store import Store

log = get_logger(__name__)

SWEEP_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 3600.0
#: Owed rows stay so long after their publication: longer than any operation is attempted.
KEEP_PUBLISHED: Final = timedelta(days=40)
BATCH: Final = 100


class Relay:
    """One per process that runs attempts of a service with an outbox.

    An engine that is given as a function is opened when it is first needed: a database that is away when a worker
    starts delays the relay, no more.
    """

    def __init__(self, service: str, store: Store, engine: sa.Engine | Callable[[], sa.Engine]) -> None:
        self.service = service
        self._store = store
        self._open = engine
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @cached_property
    def _engine(self) -> sa.Engine:
        return self._open if isinstance(self._open, sa.Engine) else self._open()

    def publish(self, *, operation_id: str = "") -> int:
        """Publish what is owed, by one operation or by all; how many events. Publishing again changes nothing.

        Raises RedisError or SQLAlchemyError; what is not published then is the next sweep's.
        """
        events = 0
        while True:
            with self._engine.connect() as connection:
                owed = outbox.pending(connection, limit=BATCH, operation_id=operation_id)
            if owed:
                self._publish(owed)
            events += len(owed)
            if len(owed) < BATCH:
                return events

    def _publish(self, owed: list[OwedEvent]) -> None:
        self._store.run(store_calls.publish([(event.event_id, event.type, self._encode(event)) for event in owed]))
        with self._engine.begin() as connection:
            outbox.published(connection, [event.event_id for event in owed])

    def forget(self) -> int:
        """Delete what was published long ago; how many rows."""
        with self._engine.begin() as connection:
            return outbox.forget(connection, older_than=KEEP_PUBLISHED)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(SWEEP_SECONDS * 2)

    def _run(self) -> None:
        forget_at = 0.0
        while not self._done.wait(SWEEP_SECONDS):
            try:
                swept = self.publish()
                if time.monotonic() >= forget_at:
                    self.forget()
                    forget_at = time.monotonic() + FORGET_SECONDS
            except (RedisError, SQLAlchemyError) as error:
                log.warning("relay.waiting", error=str(error))
                continue
            if swept:
                log.info("relay.swept", events=swept)

    def _encode(self, owed: OwedEvent) -> bytes:
        event = events_pb2.Event(
            id=owed.event_id,
            source=f"/waybill/{self.service}",
            type=owed.type,
            time=timestamp(owed.create_time_us),
            subject=owed.subject,
            traceparent=owed.traceparent,
            data=owed.data,
        )
        return store_pb2.PublishedEvent(
            event=event, operation_id=owed.operation_id, parent=owed.parent, links=owed.links
        ).SerializeToString()
