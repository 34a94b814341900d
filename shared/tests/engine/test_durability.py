"""A server that keeps less than WAYBILL_DURABILITY promises is found; an acceptance waits for replicas where asked."""

import os
import signal
from types import SimpleNamespace

import pytest
import redis
from chassis import durability, rpc_errors
from chassis.embedded import EmbeddedValkey
from chassis.errors import Unavailable
from chassis.operations import Operations, Submission
from chassis.retries import RetryPolicy
from chassis.settings import WaybillSettings
from chassis.store import AsyncStore
from chassis.testing.harness import Harness
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2

SOUND = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
TASK = SimpleNamespace(name="test.do", policy=RetryPolicy(), queue_name="test.q", default_priority=2, retention=None)


@pytest.mark.parametrize(
    ("promised", "server", "replicas", "to_set"),
    [
        ("always", {}, 0, []),
        ("always", {"appendfsync": "everysec"}, 0, ["appendfsync always"]),
        ("always", {"appendonly": "no"}, 0, ["appendonly yes"]),
        ("always", {"maxmemory-policy": "allkeys-lru"}, 0, ["maxmemory-policy noeviction"]),
        ("always", {"maxmemory-policy": "volatile-ttl"}, 0, ["maxmemory-policy noeviction"]),
        (
            "always",
            {"appendonly": "no", "appendfsync": "no", "maxmemory-policy": "allkeys-lfu"},
            0,
            ["appendonly yes", "appendfsync always", "maxmemory-policy noeviction"],
        ),
        ("everysec", {"appendfsync": "everysec"}, 0, []),
        ("everysec", {"appendfsync": "no"}, 0, ["appendfsync everysec"]),
        ("replicated", {"appendfsync": "everysec"}, 2, []),
        ("replicated", {}, 1, ["WAYBILL_REPLICAS"]),
        ("replicated", {"appendonly": "no"}, 2, ["appendonly yes"]),
    ],
)
def test_what_breaks_the_promise_is_named_with_what_to_set(promised, server, replicas, to_set):
    """All of it at once."""
    settings = WaybillSettings(durability=promised, replicas=2)

    found = durability.shortcomings(settings, SOUND | server, replicas)

    assert len(found) == len(to_set)
    assert all(setting in text for setting, text in zip(to_set, found, strict=True))


def test_only_replicas_that_follow_count():
    """One that still loads has nothing yet."""
    replication = {"role": "master", "slave0": {"state": "online"}, "slave1": {"state": "wait_bgsave"}, "slave_x": 1}

    assert durability.online_replicas(replication) == 1


@pytest.mark.slow
def test_gateway_and_worker_say_at_their_start_what_the_server_lacks(tmp_path, valkey, sample):
    """An error that says what to set, and NOT_SERVING with the reason; mended, the gateway serves."""
    with redis.Redis.from_url(valkey.url) as client, Harness(tmp_path, [sample()], valkey=valkey) as stack:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            for role in ("gateway", "worker"):
                process = stack.add("sample", role)
                process.start()
                said = process.wait_for_event("durability.not_kept")
                assert "set maxmemory-policy noeviction" in str(said["found"])
            gateway = stack.process("sample", "gateway")
            stack.wait_for_health("sample", health_pb2.HealthCheckResponse.NOT_SERVING)
            assert "noeviction" in str(gateway.wait_for_event("health.changed", status="NOT_SERVING")["reason"])
        finally:
            client.config_set("maxmemory-policy", "noeviction")
        stack.wait_until_serving("sample")


@pytest.fixture
def replica(tmp_path, valkey):
    """A replica that follows."""
    with EmbeddedValkey(tmp_path / "replica") as server, redis.Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", valkey.port)
        with redis.Redis.from_url(valkey.url, socket_timeout=30) as primary:
            primary.config_set("repl-diskless-sync-delay", 0)
            primary.set("mark", "1")
            assert primary.wait(1, 20_000) == 1
        yield server
        client.replicaof("NO", "ONE")


@pytest.fixture
async def gateways(valkey):
    """Two, each with a connection of its own."""
    stores = [AsyncStore.connect("test", valkey.url) for _ in range(2)]
    yield [Operations(store, SimpleNamespace(service="test", queue_bound=1000), replicas=1) for store in stores]
    for store in stores:
        await store.close()


@pytest.fixture
def replicated(gateways):
    return gateways[0]


async def accept(operations, request_id="r"):
    return await operations.accept(TASK, Struct(), request_id=request_id)


@pytest.mark.anyio
async def test_what_is_answered_is_on_the_replica(replicated, replica):
    """With the script known to the server or not."""
    first, second = await accept(replicated, "1"), await accept(replicated, "2")

    with redis.Redis.from_url(replica.url) as client:
        for operation in (first, second):
            assert client.exists(replicated.store.keys.operation(operation.name.rpartition("/")[2]))


@pytest.mark.anyio
async def test_what_no_replica_confirms_is_not_answered_as_accepted(gateways, replicated, replica):
    """UNAVAILABLE with RetryInfo, to a repeat as well; once the replica is back the repeat is the same operation."""
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        for gateway in gateways:
            with pytest.raises(Unavailable) as refused:
                await accept(gateway)
            assert refused.value.reason == "NOT_REPLICATED"
            assert rpc_errors.known_error(refused.value).retry_after
        with pytest.raises(Unavailable):
            await replicated.accept_many([Submission(TASK, Struct(), request_id="s")], method="m")
    finally:
        os.kill(replica.pid, signal.SIGCONT)

    operation = await accept(replicated)

    (kept,) = await replicated.store.client.zrange(replicated.store.keys.named("ops"), 0, 0)
    assert operation.name.endswith(kept.decode())
    assert await replicated.store.client.zcard(replicated.store.keys.named("ops")) == 2
