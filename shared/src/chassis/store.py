"""The operation store: everything that is true of a live operation, in Redis.

A `Call` is one script with its arguments and the reading of its answer. `Store` runs calls on a blocking connection
(workers), `AsyncStore` on asyncio (gateways). What a call means is in `scripts/`; nothing else writes an operation.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any, Final, TypeVar

from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from chassis import store_calls
from chassis.redis_asyncio import Lanes, open_client
from chassis.sentinels import open_blocking
from chassis.store_calls import Call, Keys

R = TypeVar("R")

#: Without limits a frozen Redis blocks a client for ever.
SOCKET_TIMEOUT_SECONDS: Final = 5.0
CONNECT_TIMEOUT_SECONDS: Final = 2.0
#: How long an acceptance waits for replicas.
REPLICATION_SECONDS: Final = 1.0


#: Scripts that bring new work, which a full store refuses. All others bring what is there to its end, or forget it.
_REFUSED_WHEN_FULL: Final = frozenset({"accept"})


@cache
def script_source(name: str) -> str:
    """The text of a script, the prelude included."""
    folder = resources.files("chassis") / "scripts"
    flags = "" if name in _REFUSED_WHEN_FULL else "#!lua flags=allow-oom\n"
    return flags + (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()


@cache
def script_sha(name: str) -> str:
    """The name by which the server knows a script that it has loaded."""
    return hashlib.sha1(script_source(name).encode()).hexdigest()  # noqa: S324 (Redis's name for a script)


def connection_options(*, asynchronous: bool = False) -> dict[str, Any]:
    """Options of every connection to Redis, blocking or not."""
    return {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "retry": (AsyncRetry if asynchronous else Retry)(NoBackoff(), 0),
        "decode_responses": False,
        # With them on, redis-py takes a connection that the server has closed for a sound one.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


@dataclass(slots=True)
class Store:
    """Runs calls on a blocking connection. One per process, shared by its threads."""

    keys: Keys
    #: A redis.Redis. redis-py types every answer as a union over protocols and decodings; ours are bytes.
    client: Any

    @classmethod
    def connect(cls, service: str, url: str) -> Store:
        return cls(Keys(service), open_blocking(url, **connection_options()))

    def run(self, call: Call[R]) -> R:
        """Raises redis.exceptions.ConnectionError or TimeoutError when the store is out of reach."""
        try:
            answer = self.client.evalsha(script_sha(call.script), 1, self.keys.prefix, *call.arguments)
        except NoScriptError:
            answer = self.client.eval(script_source(call.script), 1, self.keys.prefix, *call.arguments)
        return call.read(answer)

    def answers(self, within: timedelta) -> bool:
        """Whether it does by then. The question of one that does not ends with its socket's timeout, or the process."""
        heard: list[object] = []

        def ask() -> None:
            with contextlib.suppress(RedisError):
                heard.append(self.client.ping())

        asking = threading.Thread(target=ask, name="asks whether the store answers", daemon=True)
        asking.start()
        asking.join(within.total_seconds())
        return bool(heard)

    def hang_up(self) -> None:
        """As `hang_up`, of its own connections."""
        hang_up(self.client.connection_pool)

    def close(self) -> None:
        self.client.close()


def hang_up(pool: Any) -> None:
    """End every wait for an answer on a pool's connections, from any thread: those that wait see a ConnectionError."""
    for connection in tuple(pool._in_use_connections):  # noqa: SLF001 (redis-py's own way closes them under the waiting)
        with contextlib.suppress(AttributeError, OSError):
            connection._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001


@dataclass(slots=True)
class AsyncStore:
    """Runs calls on asyncio. One per event loop."""

    keys: Keys
    #: A redis.asyncio.Redis; untyped as above.
    client: Any
    lanes: Lanes

    @classmethod
    def connect(cls, service: str, url: str) -> AsyncStore:
        client = open_client(url, **connection_options(asynchronous=True))
        return cls(Keys(service), client, Lanes(client))

    async def run(self, call: Call[R]) -> R:
        """Raises as `Store.run` does."""
        prefix, arguments = self.keys.prefix, call.arguments
        try:
            answer = await self.lanes.execute("EVALSHA", script_sha(call.script), 1, prefix, *arguments)
        except NoScriptError:
            answer = await self.lanes.execute("EVAL", script_source(call.script), 1, prefix, *arguments)
        return call.read(answer)

    async def run_replicated(self, call: Call[R], replicas: int) -> tuple[R, int]:
        """The answer, and how many replicas had confirmed it within REPLICATION_SECONDS. Raises as `run` does.

        One round trip. A call that writes nothing, as one for what was accepted before, waits like any other: WAIT
        waits for what its connection wrote last, so a write of its own stands before it.
        """
        answers = await self._and_wait(call, replicas)
        if isinstance(answers[0], NoScriptError):
            for script in (call.script, _MARK.script):
                await self.client.script_load(script_source(script))
            answers = await self._and_wait(call, replicas)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return call.read(answers[0]), int(answers[2])

    async def _and_wait(self, call: Call[R], replicas: int) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for one in (call, _MARK):
            pipeline.evalsha(script_sha(one.script), 1, self.keys.prefix, *one.arguments)
        pipeline.execute_command("WAIT", replicas, int(REPLICATION_SECONDS * 1000))
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def close(self) -> None:
        await self.lanes.close()
        await self.client.aclose()


_MARK: Final = store_calls.write("SET", "replicated", "1")
