"""A token on every call of a channel."""

from __future__ import annotations

import ipaddress
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import grpc

_KEY = "authorization"


def crosses_a_network(address: str) -> bool:
    """Whether a call to `host:port` may leave this machine; a name other than localhost counts as if it did."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


class _Details(
    namedtuple("_Details", "method timeout metadata credentials wait_for_ready compression"),  # noqa: PYI024 - gRPC's
    grpc.ClientCallDetails,
):
    """What an interceptor hands on."""


class _Blocking(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, token: str) -> None:
        self._entry = (_KEY, f"Bearer {token}")

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        sent = _Details(
            details.method,
            details.timeout,
            [*(details.metadata or ()), self._entry],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        return continuation(sent, request)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)


class _Asyncio:
    def __init__(self, token: str) -> None:
        self._entry = (_KEY, f"Bearer {token}")

    async def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        sent = grpc.aio.ClientCallDetails(
            details.method,
            details.timeout,
            grpc.aio.Metadata(*(details.metadata or ()), self._entry),
            details.credentials,
            details.wait_for_ready,
        )
        return await continuation(sent, request)


class _AsyncioUnary(_Asyncio, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _AsyncioStream(_Asyncio, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


def intercepted(channel: grpc.Channel, token: str) -> grpc.Channel:
    """The channel with the token on every call; itself without one."""
    return grpc.intercept_channel(channel, _Blocking(token)) if token else channel


def interceptors(token: str) -> Sequence[grpc.aio.ClientInterceptor]:
    """As `intercepted`, for a channel of asyncio's."""
    return (_AsyncioUnary(token), _AsyncioStream(token)) if token else ()
