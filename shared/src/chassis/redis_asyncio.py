"""Clients of redis.asyncio that are bounded in time and that a cancellation always reaches.

redis-py sends each command under `asyncio.wait_for`. Before Python 3.12 that loses a cancellation that comes
while its inner task is just done (python/cpython#86296): whoever was told to end goes on. It also makes a task
for each command. `asyncio.timeout` does neither.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

import hiredis
import redis.asyncio
from redis.asyncio import connection as _connections
from redis.asyncio import sentinel as _sentinels
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.sentinels import ANSWER_SECONDS, SentinelUrl, asking_options, names_sentinels

# The stubs leave out what a connection is made of.
connections: Any = _connections
sentinels: Any = _sentinels

#: Beyond so many commands under way at once, the next waits for one to be done. redis-py's own pool refuses it.
MAX_CONNECTIONS: Final = 100
#: Of these, what is kept apart for calls that follow each other.
MAX_LANES: Final = 4


def open_client(url: str, *, socket_timeout: float, **options: Any) -> redis.asyncio.Redis:
    """As `redis.asyncio.Redis.from_url`; each send, each read and each wait for a connection is bounded.

    A URL that names Sentinels (`chassis.sentinels`) opens connections to whichever server is the primary.
    Raises redis.exceptions.ConnectionError when no connection was free for `socket_timeout` seconds.
    """
    options |= {"socket_timeout": None, "max_connections": MAX_CONNECTIONS, "timeout": socket_timeout}
    if names_sentinels(url):
        return _open_through_sentinels(SentinelUrl.parse(url), bound_seconds=socket_timeout, **options)
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(url, **options)
    pool.connection_class = _BOUNDED[pool.connection_class]
    pool.connection_kwargs["bound_seconds"] = socket_timeout
    return redis.asyncio.Redis.from_pool(pool)


def _open_through_sentinels(url: SentinelUrl, **options: Any) -> redis.asyncio.Redis:
    asked = sentinels.Sentinel([])
    asked.sentinels = [
        open_client(f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}", **_asking_options())
        for host, port in url.addresses
    ]
    options = {"connection_class": _SentinelConnection, **options, **url.login()}
    pool: Any = _SentinelPool
    return redis.asyncio.Redis.from_pool(pool(url.name, asked, **options))


def _asking_options() -> dict[str, Any]:
    return {**asking_options(), "socket_timeout": ANSWER_SECONDS, "retry": Retry(NoBackoff(), 0)}


class _Bounded:
    """Mixed into redis-py's connections, whose own `socket_timeout` is left unset."""

    def __init__(self, *, bound_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._bound_seconds = bound_seconds

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 (redis-py's)
        async with self._bound("write to"):
            await super().send_packed_command(command, check_health)  # type: ignore[misc]

    async def read_response(self, *arguments: Any, timeout: float | None = None, **options: Any) -> Any:  # noqa: ASYNC109 (redis-py's)
        if timeout is not None:
            return await super().read_response(*arguments, timeout=timeout, **options)  # type: ignore[misc]
        async with self._bound("read from"):
            return await super().read_response(*arguments, **options)  # type: ignore[misc]

    def _bound(self, what: str) -> _Bound:
        return _Bound(what, self._bound_seconds)


class _Bound:
    """`async with`: RedisTimeoutError when it takes too long.

    A connection that was interrupted is closed by redis-py, since its next answer would be another's.
    """

    __slots__ = ("_seconds", "_timeout", "_what")

    def __init__(self, what: str, seconds: float) -> None:
        self._what = what
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise RedisTimeoutError(f"could not {self._what} Redis within {self._seconds:g} s") from None


class Lanes:
    """Connections that pass from one command to the next.

    A pool's own way (a lock, a look at the socket, a retry policy, bookkeeping) costs more than the command. A lane
    that its server has closed is noticed by what asyncio has read of it.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._free: list[Any] = []

    async def execute(self, *command: Any) -> Any:
        """The answer. Raises RedisError."""
        lane = await self._take()
        try:
            await lane.send_packed_command(hiredis.pack_command(command), check_health=False)
            answer = await lane.read_response()
        except ResponseError:
            await self._give(lane)
            raise
        except BaseException:
            await self._drop(lane)
            raise
        await self._give(lane)
        return answer

    async def close(self) -> None:
        while self._free:
            await self._drop(self._free.pop())

    async def _take(self) -> Any:
        while self._free:
            lane = self._free.pop()
            reader = lane._reader  # noqa: SLF001 (its end is all that says that the server has closed)
            if reader is not None and not reader.at_eof():
                return lane
            await self._drop(lane)
        return await self._pool.get_connection()

    async def _give(self, lane: Any) -> None:
        if len(self._free) < MAX_LANES:
            self._free.append(lane)
        else:
            await self._pool.release(lane)

    async def _drop(self, lane: Any) -> None:
        await lane.disconnect(nowait=True)
        await self._pool.release(lane)


class _Connection(_Bounded, connections.Connection):  # type: ignore[misc]
    pass


class _SentinelPool(sentinels.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):  # type: ignore[misc]
    pass


class _SentinelConnection(_Bounded, sentinels.SentinelManagedConnection):  # type: ignore[misc]
    pass


class _SSLConnection(_Bounded, connections.SSLConnection):  # type: ignore[misc]
    pass


class _UnixConnection(_Bounded, connections.UnixDomainSocketConnection):  # type: ignore[misc]
    pass


_BOUNDED: Final[dict[Any, Any]] = {
    connections.Connection: _Connection,
    connections.SSLConnection: _SSLConnection,
    connections.UnixDomainSocketConnection: _UnixConnection,
}
