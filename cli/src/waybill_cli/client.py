"""A gateway, as this command talks to it: one address, through which every service is reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from waybill.admin.v1 import admin_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.operations.v1 import operations_pb2 as waybill_operations_pb2
from waybill.traces.v1 import traces_pb2, traces_pb2_grpc

CALL_TIMEOUT = timedelta(seconds=10)
# One WaitOperation call; longer waits are several.
_WAIT_SLICE = timedelta(seconds=30)
_RECONNECT_SECONDS = 0.5
_OPTIONS = (("grpc.max_receive_message_length", 16 << 20), ("grpc.enable_http_proxy", 0))
_RESUMABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the authority that is trusted, and the certificate and key by which this side is known."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises OSError for a file that cannot be read."""
        return grpc.ssl_channel_credentials(
            *(path.read_bytes() for path in (self.ca_file, self.key_file, self.cert_file))
        )


def open_channel(address: str, tls: Tls | None = None) -> grpc.aio.Channel:
    """Nothing is sent before the first call."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    return grpc.aio.secure_channel(address, tls.credentials(), options=_OPTIONS)


class Gateway:
    """Stubs over one channel, and the few calls that take more than one line. Raises grpc.RpcError."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        self.address = address
        self.tls = tls
        self.channel = open_channel(address, tls)
        # The stubs of googleapis-common-protos have no types.
        self.operations: Any = operations_pb2_grpc.OperationsStub(self.channel)
        self.queues = admin_pb2_grpc.QueueServiceStub(self.channel)
        self.workers = admin_pb2_grpc.WorkerServiceStub(self.channel)
        self.dead_letters = admin_pb2_grpc.DeadLetterServiceStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    async def call(self, method: MethodDescriptor, request: Message) -> Message:
        """Any unary method by its descriptor."""
        invoke = self.channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        answer: Message = await invoke(request, timeout=CALL_TIMEOUT.total_seconds())
        return answer

    async def get(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        answer: operations_pb2.Operation = await self.operations.GetOperation(request, timeout=_seconds())
        return answer

    async def list(
        self, service: str, *, expression: str = "", page_size: int = 50, page_token: str = ""
    ) -> operations_pb2.ListOperationsResponse:
        """A page of a service's operations, newest first."""
        request = operations_pb2.ListOperationsRequest(
            name=f"operations/{service}", filter=expression, page_size=page_size, page_token=page_token
        )
        answer: operations_pb2.ListOperationsResponse = await self.operations.ListOperations(
            request, timeout=_seconds()
        )
        return answer

    async def cancel(self, name: str) -> None:
        request = operations_pb2.CancelOperationRequest(name=name)
        await self.operations.CancelOperation(request, timeout=_seconds())

    async def wait(self, name: str, limit: timedelta | None = None) -> operations_pb2.Operation:
        """The operation when it is done; as it stands when `limit` passes first."""
        loop = asyncio.get_running_loop()
        end = None if limit is None else loop.time() + limit.total_seconds()
        while True:
            left = _WAIT_SLICE if end is None else min(_WAIT_SLICE, timedelta(seconds=max(0, end - loop.time())))
            request = operations_pb2.WaitOperationRequest(name=name)
            request.timeout.FromTimedelta(left)
            answer: operations_pb2.Operation = await self.operations.WaitOperation(
                request, timeout=_seconds(left + CALL_TIMEOUT)
            )
            if answer.done or (end is not None and loop.time() >= end):
                return answer

    async def events(
        self, service: str, types: Sequence[str] = (), cursor: str = ""
    ) -> AsyncIterator[events_pb2.SubscribeResponse]:
        """A service's events and heartbeats, without a gap: a stream that breaks goes on from its last cursor."""
        stub = events_pb2_grpc.EventServiceStub(self.channel)
        while True:
            request = events_pb2.SubscribeRequest(service=service, types=types, cursor=cursor)
            try:
                async for answer in stub.Subscribe(request):
                    cursor = answer.cursor
                    yield answer
            except grpc.aio.AioRpcError as error:
                if error.code() not in _RESUMABLE:
                    raise
            await asyncio.sleep(_RECONNECT_SECONDS)


class TraceReceiver:
    """The dashboard's own receiver of recent traces."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        self.channel = open_channel(address, tls)
        self._stub = traces_pb2_grpc.TraceServiceStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    async def spans(self, trace_id: str) -> list[traces_pb2.Span]:
        """What has been received of a trace, by start time."""
        answer = await self._stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=trace_id), timeout=_seconds())
        return list(answer.spans)

    async def watch(self, trace_id: str) -> AsyncIterator[traces_pb2.Span]:
        """What is there, then each further span once."""
        async for answer in self._stub.WatchTrace(traces_pb2.WatchTraceRequest(trace_id=trace_id)):
            yield answer.span


def metadata_of(operation: operations_pb2.Operation) -> waybill_operations_pb2.OperationMetadata:
    """The metadata that every Waybill operation carries."""
    metadata = waybill_operations_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def _seconds(timeout: timedelta = CALL_TIMEOUT) -> float:
    return timeout.total_seconds()
