"""The client for blocking code. Safe to share between threads; not across a fork."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from waybill_client import errors, flows
from waybill_client.bearer import intercepted
from waybill_client.connection import CALL_TIMEOUT, PATIENCE, Settings, Tls
from waybill_client.errors import WaybillError
from waybill_client.flows import Flow, Listing, Outage, Step
from waybill_client.listing import Page, page_of
from waybill_client.results import response_of
from waybill_client.submissions import Callee, prepare
from waybill_client.views import Change, OperationView, Received

T = TypeVar("T")
M = TypeVar("M", bound=Message)


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
    """A client of the gateway at `host:port`. Nothing is sent before the first call.

    Args:
        address: of any gateway; it reaches the other services.
        tls: None: without.
        timeout: of each call. Waiting and following take as long as they take.
        patience: how long waiting and following go on while the gateway cannot be reached; None: for ever.
        on_outage: told once of each outage, when it begins.
        token: by which the gateway knows this client; empty: none, or the certificate of `tls` alone.
        plaintext: the token may cross a network without TLS.

    Raises:
        OSError: a file of `tls` cannot be read.
        ValueError: the token would cross a network without TLS.
    """
    return Client(Settings(address, tls, timeout, patience, on_outage, token, plaintext))


class Client:
    """One connection. Every method raises a `WaybillError` for what the gateway refuses."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closed = False
        self.operations = Operations(self)
        channel = (
            grpc.secure_channel(settings.address, settings.tls.credentials(), settings.options)
            if settings.tls
            else grpc.insecure_channel(settings.address, settings.options)
        )
        self.channel = intercepted(channel, settings.token)

    @property
    def address(self) -> str:
        return self.settings.address

    def submit(
        self, work: Callee, payload: Message | Mapping[str, Any] | None = None, *, request_id: str = ""
    ) -> Operation:
        """Hand work over; returns once it is accepted, durably.

        Args:
            work: a request message, or a method by name: `reports.RenderReport`.
            payload: with a method's name: its request as a message, or as a mapping in protobuf JSON.
            request_id: idempotency key, kept 24 h: the same id with the same payload is the same operation. Empty: the
                request's own, or a random one, so that what this client repeats by itself is accepted once.

        Raises:
            TypeError: the method accepts no work, or takes another message.
            contracts.MethodError: there is no such method.
            contracts.JsonError: fields of the mapping do not fit.
            InvalidArgument: with every violation, or REQUEST_ID_REUSED.
            ResourceExhausted: the queue or the store is full; `retry_after`.
        """
        prepared = prepare(work, payload, request_id)
        if not prepared.accepts_work:
            raise TypeError(f"{prepared.path} accepts no work; use call")
        return Operation(self, self._run(flows.call(prepared.path, prepared.request, prepared.answer)))

    def call(
        self,
        callee: Callee,
        payload: Message | Mapping[str, Any] | None = None,
        *,
        timeout: timedelta | None = None,
    ) -> Any:
        """Any unary method, admin methods included; returns its answer.

        `client.call(admin_pb2.PauseQueueRequest(service="notify", queue="notify.mail"))`. Arguments as of `submit`;
        `timeout` in the place of the connection's.
        """
        prepared = prepare(callee, payload)
        return self._run(flows.call(prepared.path, prepared.request, prepared.answer, timeout))

    def operation(self, name: str) -> Operation:
        """A handle by name, without asking for it: its state is UNSPECIFIED until it is read."""
        flows.service_of(name)
        return Operation(self, operations_pb2.Operation(name=name))

    def events(
        self, service: str, types: Sequence[str] = (), *, cursor: str = "", heartbeats: bool = False
    ) -> Stream[Received]:
        """A service's events as they are published, without a gap or a repeat, whatever becomes of the gateway.

        Args:
            service: its name.
            types: a trailing `*` matches any ending; empty: all.
            cursor: a position behind which to begin, as an earlier `Received` or `Page` had it. Empty: from now on.
            heartbeats: also those, as `Received` without an event: one at the beginning, then every 15 s of silence.

        Raises, while it is iterated:
            CursorExpired: begin again from `operations.page`, whose cursor is the position of what it shows.
            Unavailable: the gateway has been away for longer than `patience`.
        """
        return Stream(self, flows.events(service, types, cursor, self._outage(), heartbeats=heartbeats))

    def close(self) -> None:
        """End the connection and all that goes on over it: streams end, waits raise Cancelled."""
        self.closed = True
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _outage(self) -> Outage:
        return Outage(self.settings.patience, self.settings.on_outage)

    def _run(self, flow: Flow[T]) -> T:
        driver = _Driver(self)
        try:
            return driver.run(flow)
        finally:
            driver.cancel()


class Operations:
    """What is not about one handle. `client.operations`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, name: str) -> Operation:
        """By name; raises NotFound."""
        return Operation(self._client, self._client._run(flows.get(name)))  # noqa: SLF001 - one package, two classes

    def list(self, service: str, filter: str = "", *, page_size: int = 0) -> Iterator[Operation]:  # noqa: A002 - AIP-132
        """Operations of a service, newest first; pages are asked for as they are come to.

        Args:
            service: its name.
            filter: as AIP-160: `state = "FAILED" AND labels.team = "sre"`. Empty: all.
            page_size: of each call, 1 to 1,000; 0: 50.

        Raises, while it is iterated:
            InvalidArgument: the filter cannot be read.
        """
        client = self._client
        return Stream(client, flows.listed(Listing(service, filter, page_size), lambda each: Operation(client, each)))

    def page(self, service: str, filter: str = "", *, page_size: int = 0, token: str = "") -> Page[Operation]:  # noqa: A002
        """One page, with the token of the next and the position in the service's events to go on from."""
        answer = self._client._run(flows.page(Listing(service, filter, page_size), token))  # noqa: SLF001
        return page_of(answer, lambda each: Operation(self._client, each))

    def delete(self, name: str) -> None:
        """Forget an operation that has ended; raises FailedPrecondition for one that has not."""
        self._client._run(flows.delete(name))  # noqa: SLF001


class Operation(OperationView):
    """A piece of work that was accepted, as it was last read, and what one can do with it."""

    def __init__(self, client: Client, message: operations_pb2.Operation) -> None:
        super().__init__(message)
        self._client = client

    def refresh(self) -> Self:
        """Read it again; raises NotFound."""
        self._show(self._client._run(flows.get(self.name)))  # noqa: SLF001
        return self

    def wait(self, timeout: timedelta | None = None) -> Self:
        """Wait until it is done, however it ends, or `timeout` passes; None: without limit.

        Outlives gateways that restart, up to the client's `patience`; raises Unavailable after that.
        """
        self._show(self._client._run(flows.wait(self.name, timeout, self._client._outage())))  # noqa: SLF001
        return self

    def result(self, timeout: timedelta | None = None) -> Any:
        """Its response message, when it has succeeded. Waits as `wait` does.

        Raises:
            OperationFailed, OperationCancelled, OperationExpired: it ended otherwise; `error` says why.
            ResultTimeout: it has not ended within `timeout`.
            TypeError: no installed contract has the response's type.
        """
        if not self.done:
            self.wait(timeout)
        return response_of(self)

    def cancel(self) -> Self:
        """Ask for its end; a result that settles first wins. Read again afterwards: it may be RUNNING still."""
        self._show(self._client._run(flows.cancel(self.name)))  # noqa: SLF001
        return self

    def watch(self) -> Stream[Change]:
        """How it stands, then every change of its state and progress until it is done, each once.

        A stream that breaks goes on from its position, without a gap or a repeat. After an outage longer than events
        are kept (24 h at least) there comes a `snapshot` again. Raises NotFound while it is iterated.
        """
        return Stream(self._client, flows.watch(self.name, self._client._outage()))  # noqa: SLF001


class Stream(Iterator[T]):
    """Values as they come. `close`, from any thread, ends it."""

    def __init__(self, client: Client, flow: Flow[None]) -> None:
        self._driver = _Driver(client)
        self._values = self._driver.iterate(flow)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        value: T = next(self._values)
        return value

    def close(self) -> None:
        self._driver.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Driver:
    """Carries out the steps of one flow."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream: Any = None
        self._cancelled = threading.Event()

    def run(self, flow: Flow[T]) -> T:
        """To its value; a flow that emits is for `iterate`."""
        answer: Any = None
        failure: WaybillError | None = None
        while True:
            try:
                step = flow.throw(failure) if failure else flow.send(answer)
            except StopIteration as end:
                value: T = end.value
                return value
            answer, failure = self._attempt(step)

    def iterate(self, flow: Flow[None]) -> Iterator[Any]:
        """What it emits, until it ends or is cancelled."""
        answer: Any = None
        failure: WaybillError | None = None
        try:
            while not (self._cancelled.is_set() or self._client.closed):
                try:
                    step = flow.throw(failure) if failure else flow.send(answer)
                except StopIteration:
                    return
                answer, failure = None, None
                if isinstance(step, flows.Emit):
                    yield step.value
                else:
                    answer, failure = self._attempt(step)
        finally:
            self.cancel()

    def cancel(self) -> None:
        self._cancelled.set()
        if self._stream is not None:
            self._stream.cancel()

    def _attempt(self, step: Step) -> tuple[Any, WaybillError | None]:
        if self._client.closed:
            raise errors.make(grpc.StatusCode.CANCELLED, "the client is closed")
        try:
            return self._do(step), None
        except grpc.RpcError as error:
            return None, errors.from_call(error)

    def _do(self, step: Step) -> Any:
        match step:
            case flows.Call():
                return self._call(step)
            case flows.Open():
                self._open(step)
            case flows.Receive():
                return next(self._stream, None)
            case flows.Pause():
                self._cancelled.wait(step.seconds)
        return None

    def _call(self, step: flows.Call) -> flows.Answer:
        invoke = self._client.channel.unary_unary(
            step.method,
            request_serializer=type(step.request).SerializeToString,
            response_deserializer=step.answer.FromString,
        )
        seconds = (step.timeout or self._client.settings.timeout + step.extra).total_seconds()
        answer, call = invoke.with_call(step.request, timeout=seconds)
        return flows.Answer(answer, dict(call.trailing_metadata() or ()))

    def _open(self, step: flows.Open) -> None:
        invoke = self._client.channel.unary_stream(
            step.method,
            request_serializer=type(step.request).SerializeToString,
            response_deserializer=step.answer.FromString,
        )
        self._stream = invoke(step.request)
        if self._cancelled.is_set():
            self._stream.cancel()
