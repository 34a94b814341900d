"""The store reaches its `maxmemory` with a backlog: what is there ends, what is new waits until there is room."""

import secrets
import threading

import grpc
import pytest
from chaos_service.gateway import ChaosStub
from chassis.admission import share_used
from chassis.statuses import from_status, rpc_status
from redis.exceptions import OutOfMemoryError

from tests.chaos.arena import Arena, kill_all
from tests.chaos.forms import experiment
from tests.chaos.oracle import LOST, SUCCESS, judge
from tests.stack import until

pytestmark = pytest.mark.slow

#: Many times what is accepted between two looks at the memory, so that the gateway refuses and not the server.
ROOM_BYTES = 16 << 20
HIGH_WATER = 0.6
BALLAST_BYTES = 8_000
#: Buffers that the server frees do not make room again.
SLACK_BYTES = 1 << 20
PATIENCE_SECONDS = 120.0


@pytest.fixture
def arena(request, tmp_path, rng):
    """One of its own: operations that have ended leave the store after a second, which is what makes room again."""
    with Arena(
        tmp_path, request.param, {"WAYBILL_TAIL_SECONDS": "1", "WAYBILL_STORE_HIGH_WATER": str(HIGH_WATER)}
    ) as own:
        own.begin(rng)
        yield own


def memory(arena):
    return arena.redis.info("memory")


def is_full(arena):
    """Whether the server refuses a write that is not the engine's."""
    try:
        arena.redis.set(arena.keys.named("chaos:a-write"), "1")
    except OutOfMemoryError:
        return True
    return False


def fill(arena):
    """Accept until the gateway refuses; what it answered then."""
    submit = ChaosStub(arena.channel("chaos")).Submit
    while True:
        work = arena.client.work("write_effect", ballast=secrets.token_bytes(BALLAST_BYTES))
        try:
            operation = submit(work, timeout=10)
        except grpc.RpcError as error:
            return error
        arena.client.told(work, operation)


def insisting(arena, work):
    """A client that repeats the request until it is accepted."""
    client = threading.Thread(target=arena.client.insist, args=(work, PATIENCE_SECONDS), daemon=True)
    client.start()
    return client


@experiment(long=2)
def test_12_a_full_store_refuses_new_work_ends_what_it_has_and_recovers(arena, rng, rounds):
    """RESOURCE_EXHAUSTED before it is full; full, a worker dies and another ends the backlog; then clients get in."""
    lost = []
    for _ in range(rounds):
        arena.redis.config_set("maxmemory", memory(arena)["used_memory"] + ROOM_BYTES)
        held = arena.hold()
        refused = fill(arena)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert from_status(rpc_status(refused)).reason == "STORE_FULL"
        assert from_status(rpc_status(refused)).retry_after is not None
        assert HIGH_WATER / 2 < share_used(memory(arena)) < (1 + HIGH_WATER) / 2
        assert not is_full(arena)

        arena.redis.config_set("maxmemory", memory(arena)["used_memory"] - SLACK_BYTES)
        assert is_full(arena)
        arena.wait_until_serving("chaos")
        late = [arena.client.work("write_effect") for _ in range(rng.randint(1, 5))]
        clients = [insisting(arena, work) for work in late]
        if rng.random() < 0.5:
            kill_all(arena.worker)
            arena.worker.start()
            held = [arena.marshal.arrived(arrival.operation, attempt=2) for arrival in held]
            lost += [arrival.operation for arrival in held]
        arena.marshal.let_go(*held)
        for client in clients:
            client.join()
        until(lambda: not is_full(arena), "there is room again", PATIENCE_SECONDS)

    kept = judge(arena)
    assert {name for name, _ in arena.listed()} == set(arena.client.accepted.values())
    ends = {name: tuple(attempt.outcome for attempt in metadata.attempts) for name, metadata in kept.items()}
    assert {ends.pop(name) for name in lost} <= {(LOST, SUCCESS)}
    # Short attempts begin with their fetch: some may have died with a worker that was killed.
    assert set(ends.values()) <= {(SUCCESS,), *([(LOST, SUCCESS)] if lost else [])}
