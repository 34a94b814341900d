"""Every event of every service, as it comes, kept so that one can wait for what may already have happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from google.protobuf.message import Message
from waybill.events.v1 import events_pb2
from waybill_client import aio

M = TypeVar("M", bound=Message)


class OperationFailedError(Exception):
    """An operation has ended as FAILED."""

    def __init__(self, change: events_pb2.OperationChanged) -> None:
        super().__init__(f"{change.operation} ({change.task}) FAILED: {change.error_message}")


class Feed:
    """Follows the events of some services. On `async with` returns when every stream is open."""

    def __init__(self, gateway: aio.Client, services: Sequence[str]) -> None:
        self._gateway = gateway
        self._services = services
        self._events: list[events_pb2.Event] = []
        self._came = asyncio.Condition()
        self._open: set[str] = set()
        self._all_open = asyncio.Event()
        self._followers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._followers = [asyncio.create_task(self._follow(service)) for service in self._services]
        opening = asyncio.create_task(self._all_open.wait())
        try:
            await asyncio.wait([opening, *self._followers], return_when=asyncio.FIRST_COMPLETED)
            for follower in self._followers:
                if follower.done():
                    follower.result()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        finally:
            opening.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    async def all(self) -> AsyncIterator[events_pb2.Event]:
        """Every event from the first on; never ends."""
        index = 0
        while True:
            async with self._came:
                await self._came.wait_for(partial(self._holds_more_than, index))
            yield self._events[index]
            index += 1

    async def first(self, event_type: str, kind: type[M], matches: Callable[[M], bool]) -> tuple[events_pb2.Event, M]:
        """The first event of that type whose data matches, past or to come.

        Raises OperationFailedError when an operation of any service fails before.
        """
        async for event in self.all():
            data = kind()
            change = events_pb2.OperationChanged()
            if event.type.endswith(".operation.failed") and event.data.Unpack(change):
                raise OperationFailedError(change)
            if event.type == event_type and event.data.Unpack(data) and matches(data):
                return event, data
        raise AssertionError  # the stream of events never ends

    def _holds_more_than(self, count: int) -> bool:
        return len(self._events) > count

    async def _follow(self, service: str) -> None:
        async for answer in self._gateway.events(service, heartbeats=True):
            self._open.add(service)
            if self._open == set(self._services):
                self._all_open.set()
            if answer.event is not None:
                async with self._came:
                    self._events.append(answer.event)
                    self._came.notify_all()
