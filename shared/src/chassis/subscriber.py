"""A subscriber: other services' events become accepted operations of this one.

An event may arrive twice and is one effect: the request_id of what it causes is made from the
event's id. The cursor is written after the acceptance, so that a killed subscriber goes back to
what it had not accepted. A publisher of whom nothing is wanted any more loses its cursor: what is
wanted of it later begins then, and not with all that has happened in between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import grpc
from google.rpc import status_pb2
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from waybill.events.v1 import events_pb2, events_pb2_grpc

from chassis import logging, telemetry
from chassis.channels import Channels
from chassis.errors import RetryLater
from chassis.operations import Operations, Submission
from chassis.settings import ServiceSettings
from chassis.statuses import from_status, rpc_status
from chassis.store import AsyncStore
from chassis.termination import pause, termination

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

TYPES_SECONDS: Final = 2.0
MIN_BACKOFF_SECONDS: Final = 0.2
MAX_BACKOFF_SECONDS: Final = 5.0
# A publisher sends something every 15 s; one that is silent for longer is called anew.
SILENCE_SECONDS: Final = 45.0
# How often a handler may fail for an unforeseen reason before its event is passed over.
MAX_HANDLER_FAILURES: Final = 8
MAX_BATCH: Final = 500

Types = Callable[[], Collection[str]]
Handler = Callable[[events_pb2.Event], Awaitable[Sequence[Submission]]]

log = logging.get_logger()


class Subscriber:
    """Follows the services that publish the wanted types; one process, one stream for each of them."""

    def __init__(
        self, app: ServiceApp, settings: ServiceSettings, *, name: str, types: Types, handler: Handler
    ) -> None:
        self.name = name
        self._types = types
        self._handler = handler
        self._waybill = settings.waybill
        self._store = AsyncStore.connect(app.service, settings.waybill.store_url)
        self._operations = Operations(self._store, app, replicas=settings.waybill.awaited_replicas)
        # Whose cursors there may be; None before the first look.
        self._publishers: frozenset[str] | None = None

    def run(self) -> int:
        """Follow until SIGTERM or SIGINT; what has been received is accepted before the end."""
        try:
            asyncio.run(self._until_terminated())
        finally:
            telemetry.shutdown()
        return 0

    async def _until_terminated(self) -> None:
        await self.follow(termination())

    async def follow(self, ended: asyncio.Event) -> None:
        """Follow until `ended` is set, in a loop that is running already."""
        channels = Channels(self._waybill)
        streams: dict[str, _Stream] = {}
        log.info("subscriber.started", subscriber=self.name)
        try:
            wanted: Mapping[str, frozenset[str]] | None = None
            while not ended.is_set():
                wanted = await self._wanted(wanted)
                if wanted is not None:
                    await self._adjust(streams, wanted, channels)
                    await self._forget_all_but(frozenset(wanted))
                await pause(ended, TYPES_SECONDS)
        finally:
            await asyncio.gather(*(stream.stop() for stream in streams.values()))
            await channels.close()
            await self._store.close()
        log.info("subscriber.drained", subscriber=self.name)

    async def _wanted(self, before: Mapping[str, frozenset[str]] | None) -> Mapping[str, frozenset[str]] | None:
        """None as long as it has never been said."""
        try:
            types = await asyncio.to_thread(self._types)
        except SQLAlchemyError as error:
            log.warning("subscriber.types_unknown", subscriber=self.name, error=str(error))
            return before
        return by_publisher(types, self._waybill.targets)

    async def _adjust(
        self, streams: dict[str, _Stream], wanted: Mapping[str, frozenset[str]], channels: Channels
    ) -> None:
        for service in [service for service, stream in streams.items() if stream.types != wanted.get(service)]:
            await streams.pop(service).stop()
        for service in wanted.keys() - streams.keys():
            stub = events_pb2_grpc.EventServiceStub(channels.asynchronous(service))
            cursors = _Cursors(self._store, self.name, service)
            intake = _Intake(self.name, self._operations, self._handler)
            streams[service] = _Stream(service, wanted[service], stub, cursors, intake)
            streams[service].start()
        for stream in streams.values():
            stream.raise_if_broken()

    async def _forget_all_but(self, publishers: frozenset[str]) -> None:
        """Also those whom an earlier process left. A stream of one of them has ended here before."""
        if publishers == self._publishers:
            return
        try:
            await _Cursors.forget_all_but(self._store, self.name, publishers)
        except RedisError as error:
            log.warning("subscriber.cursors_kept", subscriber=self.name, error=str(error))
        else:
            self._publishers = publishers


def by_publisher(types: Iterable[str], services: Iterable[str]) -> dict[str, frozenset[str]]:
    """Event types by the service that publishes them; `waybill.*` is wanted of every service."""
    found: dict[str, set[str]] = {}
    known = tuple(services)
    for kind in types:
        publisher = kind.split(".")[1] if kind.count(".") else "*"
        for service in known if "*" in publisher else (publisher,):
            found.setdefault(service, set()).add(kind)
    return {service: frozenset(kinds) for service, kinds in found.items()}


@dataclass(frozen=True, slots=True)
class _Cursors:
    """Where a subscriber is in one publisher's events, kept in the subscriber's own Redis."""

    store: AsyncStore
    subscriber: str
    publisher: str

    async def read(self) -> str:
        cursor = await self.store.client.hget(self._key, self.publisher)
        return cursor.decode() if cursor else ""

    async def write(self, cursor: str) -> None:
        await self.store.client.hset(self._key, self.publisher, cursor)

    async def forget(self) -> None:
        await self.store.client.hdel(self._key, self.publisher)

    @classmethod
    async def forget_all_but(cls, store: AsyncStore, subscriber: str, publishers: frozenset[str]) -> None:
        kept = await store.client.hkeys(cls._key_of(store, subscriber))
        if unwanted := [name for name in kept if name.decode() not in publishers]:
            await store.client.hdel(cls._key_of(store, subscriber), *unwanted)

    @property
    def _key(self) -> str:
        return self._key_of(self.store, self.subscriber)

    @staticmethod
    def _key_of(store: AsyncStore, subscriber: str) -> str:
        return store.keys.named(f"subscriber:{subscriber}")


@dataclass(frozen=True, slots=True)
class _Intake:
    """Turns one event into accepted operations."""

    subscriber: str
    operations: Operations
    handler: Handler

    async def take(self, event: events_pb2.Event, ended: asyncio.Event) -> bool:
        """Accept what the event asks for, through outages; False when the process ends before that."""
        backoff, failures = Backoff(), 0
        while not ended.is_set():
            try:
                await self._accept(event, await self.handler(event))
                return True
            except (RetryLater, RedisError, SQLAlchemyError, grpc.RpcError) as error:
                log.warning("subscriber.waits", event_id=event.id, type=event.type, error=str(error))
            except Exception:
                failures += 1
                log.exception("subscriber.handler_failed", event_id=event.id, type=event.type, failures=failures)
                if failures == MAX_HANDLER_FAILURES:
                    log.error("subscriber.event_skipped", event_id=event.id, type=event.type)  # noqa: TRY400
                    return True
            await pause(ended, backoff.next())
        return False

    async def _accept(self, event: events_pb2.Event, submissions: Sequence[Submission]) -> None:
        caused = [_caused_by(event, number, submission) for number, submission in enumerate(submissions)]
        for start in range(0, len(caused), MAX_BATCH):
            batch = caused[start : start + MAX_BATCH]
            for answer in await self.operations.accept_many(batch, method=f"subscriber/{self.subscriber}"):
                self._note(event, answer)

    def _note(self, event: events_pb2.Event, answer: object) -> None:
        """Raises what is worth another try; anything else would be refused again."""
        if not isinstance(answer, status_pb2.Status):
            log.info("subscriber.accepted", event_id=event.id, type=event.type, operation=getattr(answer, "name", ""))
            return
        error = from_status(answer)
        if isinstance(error, RetryLater):
            raise error
        log.error("subscriber.refused", event_id=event.id, type=event.type, reason=error.reason, error=error.message)


def _caused_by(event: events_pb2.Event, number: int, submission: Submission) -> Submission:
    return replace(
        submission,
        request_id=f"{event.id}/{submission.request_id or number}",
        traceparent=submission.traceparent or event.traceparent,
    )


@dataclass(slots=True)
class Backoff:
    """Waits that grow from 0.2 s to 5 s, with jitter."""

    _seconds: float = MIN_BACKOFF_SECONDS

    def next(self) -> float:
        seconds = self._seconds
        self._seconds = min(MAX_BACKOFF_SECONDS, seconds * 2)
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        self._seconds = MIN_BACKOFF_SECONDS


@dataclass(slots=True)
class _Stream:
    """One publisher's events, followed from the cursor on, through its outages and ours."""

    publisher: str
    types: frozenset[str]
    stub: events_pb2_grpc.EventServiceAsyncStub
    cursors: _Cursors
    intake: _Intake
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _backoff: Backoff = field(default_factory=Backoff)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish the event in hand and end."""
        self._ended.set()
        if self._task is not None:
            await self._task

    def raise_if_broken(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()

    async def _run(self) -> None:
        while not self._ended.is_set():
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                await self._on_refusal(error)
            except (RedisError, TimeoutError) as error:
                log.warning("subscriber.reconnects", publisher=self.publisher, error=repr(error))
            await pause(self._ended, self._backoff.next())

    async def _follow(self) -> None:
        request = events_pb2.SubscribeRequest(
            service=self.publisher, types=sorted(self.types), cursor=await self.cursors.read()
        )
        stream = self.stub.Subscribe(request)
        try:
            while (answer := await self._next(stream)) is not None:
                self._backoff.reset()
                if answer.HasField("event") and not await self.intake.take(answer.event, self._ended):
                    return
                await self.cursors.write(answer.cursor)
        finally:
            stream.cancel()

    async def _next(
        self, stream: grpc.aio.UnaryStreamCall[events_pb2.SubscribeRequest, events_pb2.SubscribeResponse]
    ) -> events_pb2.SubscribeResponse | None:
        """The next answer; None when the publisher has ended the stream or this process is to end."""
        reading = asyncio.ensure_future(stream.read())
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({reading, ending}, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                return None
            if not reading.done():
                raise TimeoutError(f"nothing for {SILENCE_SECONDS:.0f} s")
            answer = reading.result()
        finally:
            reading.cancel()
            ending.cancel()
        return answer if isinstance(answer, events_pb2.SubscribeResponse) else None

    async def _on_refusal(self, error: grpc.aio.AioRpcError) -> None:
        refusal = from_status(rpc_status(error))
        if refusal.code not in {grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT}:
            log.warning("subscriber.reconnects", publisher=self.publisher, reason=refusal.reason)
            return
        log.error(
            "subscriber.cursor_lost",
            publisher=self.publisher,
            reason=refusal.reason,
            error=refusal.message,
            resumes="now",
        )
        await self.cursors.forget()
