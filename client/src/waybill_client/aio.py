"""The client for asyncio: that of `blocking`, its methods awaited and its streams iterated with `async for`.

Arguments and errors are documented there. A client belongs to the event loop that it is made in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from waybill_client import errors, flows
from waybill_client.bearer import interceptors
from waybill_client.connection import CALL_TIMEOUT, PATIENCE, Settings, Tls
from waybill_client.errors import WaybillError
from waybill_client.flows import Flow, Listing, Outage, Step
from waybill_client.listing import Page, page_of
from waybill_client.results import response_of
from waybill_client.submissions import Callee, prepare
from waybill_client.views import Change, OperationView, Received

T = TypeVar("T")


def connect(
    address: str,
    *,
    tls: Tls | None = None,
    timeout: timedelta = CALL_TIMEOUT,
    patience: timedelta | None = PATIENCE,
    on_outage: Callable[[WaybillError], object] | None = None,
    token: str = "",
    plaintext: bool = False,
) -> Client:
    """As `waybill_client.connect`: `async with aio.connect("127.0.0.1:50051") as client:`."""
    return Client(Settings(address, tls, timeout, patience, on_outage, token, plaintext))


class Client:
    """One connection. Every method raises a `WaybillError` for what the gateway refuses."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closed = False
        self.operations = Operations(self)
        options, bearer = settings.options, interceptors(settings.token)
        self.channel = (
            grpc.aio.secure_channel(settings.address, settings.tls.credentials(), options, interceptors=bearer)
            if settings.tls
            else grpc.aio.insecure_channel(settings.address, options, interceptors=bearer)
        )

    @property
    def address(self) -> str:
        return self.settings.address

    async def submit(
        self, work: Callee, payload: Message | Mapping[str, Any] | None = None, *, request_id: str = ""
    ) -> Operation:
        """Hand work over; returns once it is accepted, durably."""
        prepared = prepare(work, payload, request_id)
        if not prepared.accepts_work:
            raise TypeError(f"{prepared.path} accepts no work; use call")
        return Operation(self, await self._run(flows.call(prepared.path, prepared.request, prepared.answer)))

    async def call(
        self,
        callee: Callee,
        payload: Message | Mapping[str, Any] | None = None,
        *,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - part of the call
    ) -> Any:
        """Any unary method, admin methods included; returns its answer."""
        prepared = prepare(callee, payload)
        return await self._run(flows.call(prepared.path, prepared.request, prepared.answer, timeout))

    def operation(self, name: str) -> Operation:
        """A handle by name, without asking for it: its state is UNSPECIFIED until it is read."""
        flows.service_of(name)
        return Operation(self, operations_pb2.Operation(name=name))

    def events(
        self, service: str, types: Sequence[str] = (), *, cursor: str = "", heartbeats: bool = False
    ) -> Stream[Received]:
        """A service's events as they are published, without a gap or a repeat, whatever becomes of the gateway."""
        return Stream(self, flows.events(service, types, cursor, self._outage(), heartbeats=heartbeats))

    async def close(self) -> None:
        """End the connection and all that goes on over it: streams end, waits raise Cancelled."""
        self.closed = True
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _outage(self) -> Outage:
        return Outage(self.settings.patience, self.settings.on_outage)

    async def _run(self, flow: Flow[T]) -> T:
        driver = _Driver(self)
        try:
            return await driver.run(flow)
        finally:
            driver.cancel()


class Operations:
    """What is not about one handle. `client.operations`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, name: str) -> Operation:
        """By name; raises NotFound."""
        return Operation(self._client, await self._client._run(flows.get(name)))  # noqa: SLF001 - one package

    def list(self, service: str, filter: str = "", *, page_size: int = 0) -> Stream[Operation]:  # noqa: A002 - AIP-132
        """Operations of a service, newest first; pages are asked for as they are come to."""
        client = self._client
        return Stream(client, flows.listed(Listing(service, filter, page_size), lambda each: Operation(client, each)))

    async def page(
        self,
        service: str,
        filter: str = "",  # noqa: A002 - AIP-132
        *,
        page_size: int = 0,
        token: str = "",
    ) -> Page[Operation]:
        """One page, with the token of the next and the position in the service's events to go on from."""
        answer = await self._client._run(flows.page(Listing(service, filter, page_size), token))  # noqa: SLF001
        return page_of(answer, lambda each: Operation(self._client, each))

    async def delete(self, name: str) -> None:
        """Forget an operation that has ended; raises FailedPrecondition for one that has not."""
        await self._client._run(flows.delete(name))  # noqa: SLF001


class Operation(OperationView):
    """A piece of work that was accepted, as it was last read, and what one can do with it."""

    def __init__(self, client: Client, message: operations_pb2.Operation) -> None:
        super().__init__(message)
        self._client = client

    async def refresh(self) -> Self:
        """Read it again; raises NotFound."""
        self._show(await self._client._run(flows.get(self.name)))  # noqa: SLF001
        return self

    async def wait(self, timeout: timedelta | None = None) -> Self:  # noqa: ASYNC109 - part of the request
        """Wait until it is done, however it ends, or `timeout` passes; None: without limit."""
        self._show(await self._client._run(flows.wait(self.name, timeout, self._client._outage())))  # noqa: SLF001
        return self

    async def result(self, timeout: timedelta | None = None) -> Any:  # noqa: ASYNC109 - as `wait`
        """Its response message, when it has succeeded; raises OperationFailed and its siblings, ResultTimeout."""
        if not self.done:
            await self.wait(timeout)
        return response_of(self)

    async def cancel(self) -> Self:
        """Ask for its end; a result that settles first wins. Read again afterwards: it may be RUNNING still."""
        self._show(await self._client._run(flows.cancel(self.name)))  # noqa: SLF001
        return self

    def watch(self) -> Stream[Change]:
        """How it stands, then every change of its state and progress until it is done, each once."""
        return Stream(self._client, flows.watch(self.name, self._client._outage()))  # noqa: SLF001


class Stream(AsyncIterator[T]):
    """Values as they come. `aclose` ends it, and so does the end of the task that iterates."""

    def __init__(self, client: Client, flow: Flow[None]) -> None:
        self._values = _Driver(client).iterate(flow)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        value: T = await anext(self._values)
        return value

    async def aclose(self) -> None:
        await self._values.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Driver:
    """Carries out the steps of one flow."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream: Any = None

    async def run(self, flow: Flow[T]) -> T:
        """To its value; a flow that emits is for `iterate`."""
        answer: Any = None
        failure: WaybillError | None = None
        while True:
            try:
                step = flow.throw(failure) if failure else flow.send(answer)
            except StopIteration as end:
                value: T = end.value
                return value
            answer, failure = await self._attempt(step)

    async def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any, None]:
        """What it emits, until it ends."""
        answer: Any = None
        failure: WaybillError | None = None
        try:
            while not self._client.closed:
                try:
                    step = flow.throw(failure) if failure else flow.send(answer)
                except StopIteration:
                    return
                answer, failure = None, None
                if isinstance(step, flows.Emit):
                    yield step.value
                else:
                    answer, failure = await self._attempt(step)
        finally:
            self.cancel()

    def cancel(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    async def _attempt(self, step: Step) -> tuple[Any, WaybillError | None]:
        if self._client.closed:
            raise errors.make(grpc.StatusCode.CANCELLED, "the client is closed")
        try:
            return await self._do(step), None
        except grpc.RpcError as error:
            return None, errors.from_call(error)

    async def _do(self, step: Step) -> Any:
        match step:
            case flows.Call():
                return await self._call(step)
            case flows.Open():
                self._open(step)
            case flows.Receive():
                message = await self._stream.read()
                return None if message is grpc.aio.EOF else message
            case flows.Pause():
                await asyncio.sleep(step.seconds)
        return None

    async def _call(self, step: flows.Call) -> flows.Answer:
        invoke = self._client.channel.unary_unary(
            step.method,
            request_serializer=type(step.request).SerializeToString,
            response_deserializer=step.answer.FromString,
        )
        seconds = (step.timeout or self._client.settings.timeout + step.extra).total_seconds()
        call: Any = invoke(step.request, timeout=seconds)
        answer = await call
        return flows.Answer(answer, dict(await call.trailing_metadata() or ()))

    def _open(self, step: flows.Open) -> None:
        invoke = self._client.channel.unary_stream(
            step.method,
            request_serializer=type(step.request).SerializeToString,
            response_deserializer=step.answer.FromString,
        )
        self.cancel()
        self._stream = invoke(step.request)
