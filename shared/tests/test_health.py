"""Health compares Redis with what WAYBILL_DURABILITY promises."""

import contextlib

import grpc
import pytest
import redis
from chassis.authority import Authority
from chassis.embedded import EmbeddedValkey
from chassis.health import Health, serve_alone
from chassis.settings import WaybillSettings
from chassis.testing.callers import Callers
from grpc_health.v1 import health_pb2, health_pb2_grpc

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def configured(valkey):
    """Set the server's configuration for one test."""
    with redis.Redis.from_url(valkey.url) as client:

        def configure(**settings):
            for name, value in settings.items():
                client.config_set(name, value)

        yield configure
        configure(appendonly="yes", appendfsync="always", **{"maxmemory-policy": "noeviction"})


@contextlib.asynccontextmanager
async def checked(url, **settings):
    health = Health(WaybillSettings(redis_url=url, **settings), ["depot"])
    await health.start()
    server, port = await serve_alone(health.servicer, "127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def look():
            await health.look()
            answers = [await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in ("", "depot")]
            (status,) = {answer.status for answer in answers}
            return status

        yield health, stub, look
    await server.stop(0)
    await health.close()


@pytest.mark.parametrize(
    ("durability", "server", "status"),
    [
        ("always", {"appendonly": "yes", "appendfsync": "always"}, SERVING),
        ("always", {"appendonly": "yes", "appendfsync": "everysec"}, NOT_SERVING),
        ("always", {"appendonly": "no"}, NOT_SERVING),
        ("everysec", {"appendonly": "yes", "appendfsync": "everysec"}, SERVING),
        ("everysec", {"appendonly": "yes", "appendfsync": "always"}, SERVING),
        ("everysec", {"appendonly": "no"}, NOT_SERVING),
        ("everysec", {"appendonly": "yes", "appendfsync": "no"}, NOT_SERVING),
        ("always", {"maxmemory-policy": "allkeys-lru"}, NOT_SERVING),
        ("everysec", {"maxmemory-policy": "volatile-ttl"}, NOT_SERVING),
        ("replicated", {}, NOT_SERVING),
    ],
)
async def test_serving_means_as_durable_as_promised(valkey, configured, durability, server, status):
    """A server that would lose acknowledged writes is not served from."""
    configured(**server)

    async with checked(valkey.url, durability=durability) as (_, _, look):
        assert await look() == status


async def test_replicated_serves_with_a_replica(valkey, tmp_path):
    """One connected replica satisfies WAYBILL_DURABILITY=replicated."""
    port = valkey.url.partition("127.0.0.1:")[2].partition("/")[0]
    with EmbeddedValkey(tmp_path / "replica") as replica, redis.Redis.from_url(replica.url) as client:
        client.replicaof("127.0.0.1", port)
        with redis.Redis.from_url(valkey.url, socket_timeout=30) as primary:
            primary.config_set("repl-diskless-sync-delay", 0)
            primary.set("depot:mark", "1")
            assert primary.wait(1, 20_000) == 1

        async with checked(valkey.url, durability="replicated") as (_, _, look):
            assert await look() == SERVING
        async with checked(valkey.url, durability="replicated", replicas=2) as (_, _, look):
            assert await look() == NOT_SERVING
        client.replicaof("NO", "ONE")


async def test_nothing_is_served_before_redis_was_seen_or_without_it():
    """An unreachable Redis is NOT_SERVING, from the start."""
    async with checked("redis://127.0.0.1:1/0") as (_, stub, look):
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
        assert await look() == NOT_SERVING


async def test_a_draining_gateway_stays_down(valkey):
    """After a drain has begun no look makes it serve again."""
    async with checked(valkey.url) as (health, _, look):
        assert await look() == SERVING
        await health.drain()
        assert await look() == NOT_SERVING


async def test_health_shows_that_the_gateway_is_insecure(valkey):
    """WAYBILL_INSECURE=1 is on every answer of Check."""
    for insecure in (True, False):
        async with checked(valkey.url, insecure=insecure) as (_, stub, _):
            call = stub.Check(health_pb2.HealthCheckRequest())
            await call
            assert (("waybill-insecure", "1") in tuple(await call.trailing_metadata())) is insecure


async def test_health_shows_that_the_tokens_in_force_are_not_those_of_the_file(valkey, tmp_path):
    """That it is so, and nothing of the file: anybody may ask."""
    callers = Callers.written(tmp_path / "tokens.json")
    waybill = WaybillSettings(redis_url=valkey.url, routes={}, tokens_file=callers.path)
    authority = Authority("depot", waybill)
    health = Health(waybill, ["depot"], authority)
    assert health._remarks() == []

    callers.path.write_text("{")
    authority._file.look()

    assert health._remarks() == [("waybill-tokens", "stale")]
    await health.close()


async def test_a_service_that_is_not_here_is_not_found(valkey):
    """Health knows the services of its own gateway."""
    async with checked(valkey.url) as (_, stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Check(health_pb2.HealthCheckRequest(service="yard"))

    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
