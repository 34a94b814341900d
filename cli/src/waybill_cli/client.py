"""What the command says to a stack beyond `waybill_client`: a channel alone, and the receiver of recent traces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

import grpc
from waybill.traces.v1 import traces_pb2, traces_pb2_grpc
from waybill_client import CALL_TIMEOUT, PATIENCE, Tls, WaybillError, aio

__all__ = ["CALL_TIMEOUT", "OPEN", "Access", "Tls", "TraceReceiver", "open_channel"]


@dataclass(frozen=True, slots=True)
class Access:
    """By what a listener is reached, and by what it knows the command."""

    tls: Tls | None = None
    token: str = field(default="", repr=False)
    # The token may cross a network without TLS.
    plaintext: bool = False

    def connect(
        self,
        address: str,
        on_outage: Callable[[WaybillError], object] | None = None,
        patience: timedelta | None = PATIENCE,
    ) -> aio.Client:
        """A client of what listens there. Nothing is sent before the first call."""
        return aio.connect(
            address,
            tls=self.tls,
            token=self.token,
            plaintext=self.plaintext,
            on_outage=on_outage,
            patience=patience,
        )


OPEN = Access()


def open_channel(address: str, access: Access = OPEN) -> grpc.aio.Channel:
    """For stubs of one's own. Nothing is sent before the first call."""
    return access.connect(address).channel


class TraceReceiver:
    """The dashboard's own receiver of recent traces."""

    def __init__(self, address: str, access: Access = OPEN) -> None:
        self._client = access.connect(address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def spans(self, trace_id: str) -> list[traces_pb2.Span]:
        """What has been received of a trace, by start time; raises WaybillError."""
        answer: traces_pb2.GetTraceResponse = await self._client.call(traces_pb2.GetTraceRequest(trace_id=trace_id))
        return list(answer.spans)

    async def watch(self, trace_id: str) -> AsyncIterator[traces_pb2.Span]:
        """What is there, then each further span once; raises grpc.RpcError."""
        stub = traces_pb2_grpc.TraceServiceStub(self._client.channel)
        async for answer in stub.WatchTrace(traces_pb2.WatchTraceRequest(trace_id=trace_id)):
            yield answer.span
