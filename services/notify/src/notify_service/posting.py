"""One HTTP POST to a URL that a stranger chose: bounded in time and size, to judged addresses, without redirects."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpcore
from chassis.errors import PermanentError, TransientError

from notify_service.addresses import AddressForbidden, HostNotFound, Resolver, reachable
from notify_service.allowance import Allowance

#: What is read of an answer's body; the rest is left to the connection's end.
MAX_BODY: Final = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and headers, their names in lower case."""

    status: int
    headers: Mapping[str, str]


class Poster:
    """Posts; each request has a connection of its own, and proxies of the environment are not used."""

    def __init__(
        self,
        allowance: Allowance,
        timeout_seconds: float,
        *,
        resolve: Resolver = socket.getaddrinfo,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowance = allowance
        self._timeout_seconds = timeout_seconds
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer, whatever its status. Raises PermanentError for a forbidden address, else TransientError.

        The timeout covers all of it but the resolving, whose own limits are the resolver's.
        """
        backend = _JudgedBackend(self._allowance, self._resolve, self._timeout_seconds)
        try:
            with httpcore.ConnectionPool(ssl_context=self._tls, network_backend=backend, max_connections=1) as pool:
                return self._exchange(pool, url, headers, body)
        except AddressForbidden as error:
            raise PermanentError(str(error), reason="WEBHOOK_ADDRESS_FORBIDDEN") from error
        except HostNotFound as error:
            raise TransientError(str(error), reason="WEBHOOK_UNREACHABLE") from error
        except httpcore.TimeoutException as error:
            message = f"the receiver has not answered within {self._timeout_seconds:g} s"
            raise TransientError(message, reason="WEBHOOK_TIMEOUT") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            message = f"the receiver cannot be reached: {str(error) or type(error).__name__}"
            raise TransientError(message, reason="WEBHOOK_UNREACHABLE") from error

    def _exchange(self, pool: httpcore.ConnectionPool, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_seconds)
        extensions = {"timeout": limits}
        with pool.stream("POST", url, headers=list(headers.items()), content=body, extensions=extensions) as response:
            answer = Answer(
                response.status,
                {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers},
            )
            # The status is known: what goes wrong with the body changes nothing.
            with contextlib.suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
                _drain(response.iter_stream())
        return answer


class _JudgedBackend(httpcore.NetworkBackend):
    """Connects to the addresses that were judged; TLS still verifies the certificate against the host's name."""

    def __init__(self, allowance: Allowance, resolve: Resolver, timeout_seconds: float) -> None:
        self._allowance = allowance
        self._resolve = resolve
        self._timeout_seconds = timeout_seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = reachable(host, port, self._allowance, self._resolve)
        left = _Clock(self._timeout_seconds)
        errors: list[httpcore.ConnectError | httpcore.ConnectTimeout] = []
        for address, scope in addresses:
            literal = f"{address}%{scope}" if scope else str(address)
            try:
                stream = _PLAIN.connect_tcp(literal, port, left(timeout), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                errors.append(error)
            else:
                return _BoundedStream(stream, left)
        raise errors[-1]


class _BoundedStream(httpcore.NetworkStream):
    """Ends with the clock, however little at a time the other side sends."""

    def __init__(self, stream: httpcore.NetworkStream, left: Callable[[float | None], float]) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._left(timeout))
        return _BoundedStream(secured, self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Clock:
    """How much of the whole time is left for the next step. Raises httpcore.ReadTimeout when none is."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def __call__(self, wanted: float | None) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the whole time is used up")
        return left if wanted is None else min(wanted, left)


_PLAIN: Final = httpcore.SyncBackend()


def _drain(chunks: Iterable[bytes]) -> None:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size >= MAX_BODY:
            return
