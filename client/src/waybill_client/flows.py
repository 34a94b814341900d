"""What a client does, step by step, without doing it.

A flow is a generator: it yields steps, is sent their answers, and is thrown the WaybillError of a step that failed.
`blocking` and `aio` carry the same flows out, each in its own way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from waybill.events.v1 import events_pb2
from waybill.operations.v1 import operations_pb2 as waybill_pb2

from waybill_client import errors, views
from waybill_client.errors import WaybillError
from waybill_client.views import OperationView, Received, metadata_of

#: One WaitOperation call; longer waits are several.
WAIT_SLICE = timedelta(seconds=30)
MAX_BACKOFF_SECONDS: Final = 3.0
CURSOR_METADATA: Final = "waybill-cursor"
_OPERATIONS: Final = "/google.longrunning.Operations"
_SUBSCRIBE: Final = "/waybill.events.v1.EventService/Subscribe"
# Said by the transport, by a server that shuts down, or by this side's own deadline.
_PASSING: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True)
class Call:
    """A unary call; answered with `Answer`. `extra`: beyond the connection's timeout; `timeout`: in its place."""

    method: str
    request: Message
    answer: type[Message]
    extra: timedelta = timedelta()
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a unary call, with its trailing metadata."""

    message: Any
    trailing: dict[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Open:
    """A server stream, in the place of the one before; answered at once."""

    method: str
    request: Message
    answer: type[Message]


@dataclass(frozen=True, slots=True)
class Receive:
    """The open stream's next message; None at its end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing, for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """A value for whoever iterates."""

    value: Any


Step: TypeAlias = Call | Open | Receive | Pause | Emit
T = TypeVar("T")
Flow: TypeAlias = Generator[Step, Any, T]


class Outage:
    """Sits out a gateway that cannot be reached, up to the connection's patience, with growing pauses."""

    def __init__(self, patience: timedelta | None, notice: Callable[[WaybillError], object] | None = None) -> None:
        self._patience = patience
        self._notice = notice
        self._since: float | None = None
        self._failures = 0

    def over(self) -> None:
        """The gateway has answered."""
        self._since, self._failures = None, 0

    def sit_out(self, error: WaybillError, end: float | None = None) -> Flow[None]:
        """Pause; raises the error when it is not one that passes, or patience or `end` (monotonic seconds) is over."""
        now = time.monotonic()
        if error.code not in _PASSING or (end is not None and now >= end):
            raise error
        if self._since is None:
            self._since = now
            if self._notice:
                self._notice(error)
        if self._patience is not None and now - self._since >= self._patience.total_seconds():
            raise error
        self._failures += 1
        longest = min(MAX_BACKOFF_SECONDS, 0.1 * 2**self._failures)
        asked = error.retry_after.total_seconds() if error.retry_after else 0.0
        seconds = max(asked, random.uniform(longest / 2, longest))  # noqa: S311 - spreads clients, hides nothing
        yield Pause(seconds if end is None else min(seconds, max(0.0, end - now)))


def call(method: str, request: Message, answer: type[Message], timeout: timedelta | None = None) -> Flow[Any]:
    """One unary call and nothing else."""
    answered: Answer = yield Call(method, request, answer, timeout=timeout)
    return answered.message


def get(name: str) -> Flow[operations_pb2.Operation]:
    """GetOperation."""
    request = operations_pb2.GetOperationRequest(name=name)
    found: operations_pb2.Operation = yield from call(f"{_OPERATIONS}/GetOperation", request, operations_pb2.Operation)
    return found


def cancel(name: str) -> Flow[operations_pb2.Operation]:
    """CancelOperation, and what became of it."""
    request = operations_pb2.CancelOperationRequest(name=name)
    yield from call(f"{_OPERATIONS}/CancelOperation", request, Empty)
    return (yield from get(name))


def delete(name: str) -> Flow[None]:
    """DeleteOperation."""
    yield from call(f"{_OPERATIONS}/DeleteOperation", operations_pb2.DeleteOperationRequest(name=name), Empty)


def wait(name: str, limit: timedelta | None, outage: Outage) -> Flow[operations_pb2.Operation]:
    """The operation when it is done; as it stands when `limit` passes first. Outlives outages."""
    end = None if limit is None else time.monotonic() + limit.total_seconds()
    while True:
        left = WAIT_SLICE if end is None else min(WAIT_SLICE, timedelta(seconds=max(0.0, end - time.monotonic())))
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromTimedelta(left)
        try:
            answer: Answer = yield Call(f"{_OPERATIONS}/WaitOperation", request, operations_pb2.Operation, extra=left)
        except WaybillError as error:
            yield from outage.sit_out(error, end)
            continue
        outage.over()
        operation: operations_pb2.Operation = answer.message
        if operation.done or (end is not None and time.monotonic() >= end):
            return operation


@dataclass(frozen=True, slots=True)
class Listing:
    """Which operations are listed: of one service, by a filter (AIP-160), newest first."""

    service: str
    filter: str = ""
    page_size: int = 0


def page(listing: Listing, token: str) -> Flow[Answer]:
    """One page, with the position of the snapshot in its trailing metadata."""
    request = operations_pb2.ListOperationsRequest(
        name=f"operations/{listing.service}",
        filter=listing.filter,
        page_size=listing.page_size,
        page_token=token,
    )
    answer: Answer = yield Call(f"{_OPERATIONS}/ListOperations", request, operations_pb2.ListOperationsResponse)
    return answer


def listed(listing: Listing, handle: Callable[[operations_pb2.Operation], OperationView]) -> Flow[None]:
    """Emits every operation, page after page, each page when it is come to."""
    token = ""
    while True:
        answer = yield from page(listing, token)
        for operation in answer.message.operations:
            yield Emit(handle(operation))
        token = answer.message.next_page_token
        if not token:
            return


def events(service: str, types: Sequence[str], cursor: str, outage: Outage, *, heartbeats: bool = False) -> Flow[None]:
    """Emits a service's events after the cursor; a stream that breaks goes on from its last position."""
    while True:
        yield Open(_SUBSCRIBE, _subscription(service, types, cursor), events_pb2.SubscribeResponse)
        try:
            while (response := (yield Receive())) is not None:
                outage.over()
                cursor = response.cursor
                event = response.event if response.HasField("event") else None
                if event is not None or heartbeats:
                    yield Emit(Received(event, cursor))
        except WaybillError as error:
            yield from outage.sit_out(error)
        else:
            yield from outage.sit_out(_ended())


def watch(name: str, outage: Outage) -> Flow[None]:
    """Emits how an operation stands, then each change of it, until it is done.

    Subscribes before it looks, so that nothing falls between the two; what the look shows already is not told again.
    """
    service = service_of(name)
    following = _Following(name)
    while True:
        types = [f"waybill.{service}.operation.*"]
        yield Open(_SUBSCRIBE, _subscription(service, types, following.cursor), events_pb2.SubscribeResponse)
        try:
            done = yield from following.read(outage)
        except errors.CursorExpired:
            following = _Following(name)
        except WaybillError as error:
            yield from outage.sit_out(error)
        else:
            if done:
                return
            yield from outage.sit_out(_ended())


class _Following:
    """One operation among its service's events, from the snapshot on."""

    def __init__(self, name: str) -> None:
        self.cursor = ""
        self._name = name
        self._seen: waybill_pb2.OperationMetadata | None = None

    def read(self, outage: Outage) -> Flow[bool]:
        """Read the stream to its end; whether the operation is done."""
        while (response := (yield Receive())) is not None:
            outage.over()
            if not self.cursor:
                operation = yield from get(self._name)
                yield Emit(views.snapshot(operation))
                if operation.done:
                    return True
                self._seen = metadata_of(operation)
            self.cursor = response.cursor
            if response.event.subject == self._name and (change := self._new(response)):
                yield Emit(change)
                if change.state.final:
                    return True
        return False

    def _new(self, response: events_pb2.SubscribeResponse) -> views.Change | None:
        change = Received(response.event, response.cursor).change
        if change is None or (self._seen is not None and views.includes(self._seen, change)):
            return None
        # The log is in order: what comes behind a new event is new.
        self._seen = None
        return change


def service_of(name: str) -> str:
    """`reports` of `operations/reports/0190...`; raises InvalidArgument for what is no operation's name."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "operations" or not all(parts):  # noqa: PLR2004 - operations/SERVICE/ID
        raise errors.make(grpc.StatusCode.INVALID_ARGUMENT, f"{name!r}: expected operations/SERVICE/ID")
    return parts[1]


def _subscription(service: str, types: Sequence[str], cursor: str) -> events_pb2.SubscribeRequest:
    return events_pb2.SubscribeRequest(service=service, types=types, cursor=cursor)


def _ended() -> WaybillError:
    return errors.make(grpc.StatusCode.UNAVAILABLE, "the stream has ended")
