"""A client of Redis on asyncio is bounded in time, and whoever waits for it can always be cancelled."""

import asyncio
import os
import signal

import pytest
from chassis.embedded import EmbeddedValkey
from chassis.redis_asyncio import MAX_CONNECTIONS, Lanes, open_client
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError


class Writer:
    """A socket whose writes are done when the test says so."""

    def __init__(self):
        self.entered = asyncio.Event()
        self.pending = []

    def writelines(self, _lines):
        pass

    async def drain(self):
        self.pending.append(asyncio.get_running_loop().create_future())
        self.entered.set()
        await self.pending[-1]


async def nothing(**_options):
    pass


async def sends_for_ever(connection):
    while True:
        await connection.send_packed_command(b"PING")


async def is_cancelled_so_late(turns):
    """Cancel so many turns of the loop after a write was done; whether that ended the task."""
    connection = open_client("redis://127.0.0.1:1/0", socket_timeout=60).connection_pool.make_connection()
    writer = connection._writer = Writer()
    connection._reader, connection.disconnect = object(), nothing
    task = asyncio.create_task(sends_for_ever(connection))
    await writer.entered.wait()
    writer.pending[0].set_result(None)
    for _ in range(turns):
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait({task}, timeout=1)

    connection._writer = connection._reader = None
    return task.cancelled()


@pytest.mark.parametrize("turns", range(6))
def test_a_cancellation_is_never_lost(turns):
    """Not even one that comes while a command has just been sent; a drain would wait for that task for ever."""
    assert asyncio.run(is_cancelled_so_late(turns))


def test_a_frozen_server_is_a_timeout(tmp_path):
    """Each call ends within the bound, and the client works again once the server does."""

    async def scenario(valkey):
        client = open_client(valkey.url, socket_timeout=0.2)
        assert await client.ping()
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            with pytest.raises(RedisTimeoutError, match=r"could not read from Redis within 0\.2 s"):
                await client.ping()
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        answer = await client.ping()
        await client.aclose()
        return answer

    with EmbeddedValkey(tmp_path) as valkey:
        assert asyncio.run(scenario(valkey))


def test_a_blocking_read_with_a_limit_of_its_own_is_no_timeout(tmp_path):
    """An empty answer within the bound is an answer."""

    async def scenario(valkey):
        async with open_client(valkey.url, socket_timeout=5) as client:
            return await client.xread({"events": "$"}, block=10)

    with EmbeddedValkey(tmp_path) as valkey:
        assert not asyncio.run(scenario(valkey))


@pytest.mark.parametrize("url", ["redis://localhost:1/0", "rediss://localhost:1/0", "unix:///nowhere/valkey.sock"])
def test_every_scheme_has_a_bounded_connection(url):
    """TLS and sockets are bounded as plain TCP is."""
    connection = open_client(url, socket_timeout=3).connection_pool.make_connection()

    assert connection._bound_seconds == 3
    assert connection.socket_timeout is None


def test_a_burst_of_calls_waits_its_turn(tmp_path):
    """As when a thousand clients begin to wait for operations at once: none is refused, connections stay bounded."""

    async def scenario(valkey):
        client = open_client(valkey.url, socket_timeout=60)
        answers = await asyncio.gather(*(client.ping() for _ in range(5 * MAX_CONNECTIONS)))
        clients = await client.info("clients")
        await client.aclose()
        return answers, clients["connected_clients"]

    with EmbeddedValkey(tmp_path) as valkey:
        answers, connected = asyncio.run(scenario(valkey))

    assert all(answers)
    assert connected <= MAX_CONNECTIONS


@pytest.mark.anyio
async def test_a_lane_that_its_server_has_closed_is_not_used_again(valkey):
    """The next command finds another connection; nobody hears of the old one."""
    client = open_client(valkey.url, socket_timeout=5)
    lanes = Lanes(client)
    first = await lanes.execute("CLIENT", "ID")
    assert await lanes.execute("CLIENT", "ID") == first

    await client.execute_command("CLIENT", "KILL", "ID", first)
    while not lanes._free[0]._reader.at_eof():  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)

    assert await lanes.execute("CLIENT", "ID") != first
    await lanes.close()
    await client.aclose()


@pytest.mark.anyio
async def test_commands_side_by_side_have_lanes_of_their_own(valkey):
    """Answers go to whom they are for; an error leaves its lane in use."""
    client = open_client(valkey.url, socket_timeout=5)
    lanes = Lanes(client)

    answers = await asyncio.gather(*(lanes.execute("ECHO", str(number)) for number in range(50)))
    with pytest.raises(ResponseError):
        await lanes.execute("NO-SUCH-COMMAND")

    assert [answer.decode() for answer in answers] == [str(number) for number in range(50)]
    assert await lanes.execute("ECHO", "after") == b"after"
    await lanes.close()
    await client.aclose()
