"""Valkey is killed, stopped, frozen; clocks are wrong; nothing is lost, and what runs is run once."""

import time

import grpc
import pytest
from chaos_service.gateway import ChaosStub
from chassis.statuses import from_status, rpc_status
from waybill.operations.v1 import operations_pb2 as ops

from tests.chaos.arena import GRACE_SECONDS, LEASE_SECONDS, endure, freeze, frozen, thaw
from tests.chaos.forms import experiment
from tests.chaos.oracle import LOST, SUCCESS, judge
from tests.stack import until

pytestmark = pytest.mark.slow

CONSUMING_AGAIN_SECONDS = 15.0
DEADLINE_SECONDS = 3.0


def outcomes(kept):
    return [attempt.outcome for attempt in kept.attempts]


@experiment(short=1, long=10)
def test_08_a_killed_valkey_has_lost_nothing_that_was_accepted(arena, rng, rounds):
    """SIGKILL under load, half of the times while it rewrites its file: all that was accepted ends, soon again."""
    pids = [process.pid for process in arena.processes]
    with arena.load() as load:
        for _ in range(rounds):
            load.wait_for(rng.randint(1, 40))
            if rng.random() < 0.5:
                arena.redis.bgrewriteaof()
                load.wait_for(rng.randint(0, 3))
            arena.valkey.kill()
            arena.valkey.start()
            back = time.monotonic()
            arena.finished(arena.client.submit("write_effect"))

            assert time.monotonic() - back < CONSUMING_AGAIN_SECONDS

    judge(arena)
    assert [process.pid for process in arena.processes] == pids


@experiment(short=1, long=15)
def test_10_while_valkey_is_frozen_gateways_answer_and_a_worker_ends(arena, rounds):
    """Frozen for that many seconds: UNAVAILABLE within the deadline; a worker that is told to end does, without it."""
    before = arena.client.submit_many("write_effect", 10)
    for name in before:
        arena.finished(name)
    work = arena.client.work("write_effect")
    with frozen(arena.valkey):
        since = time.monotonic()
        arena.worker.terminate()
        with pytest.raises(grpc.RpcError) as refused:
            ChaosStub(arena.channel("chaos")).Submit(work, timeout=DEADLINE_SECONDS)
        assert arena.worker.wait(GRACE_SECONDS) == 0
        endure(rounds - (time.monotonic() - since))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert from_status(rpc_status(refused.value)).retry_after is not None

    arena.client.insist(work)
    arena.worker.start()
    judge(arena)


@experiment(short=1, long=3)
def test_11_attempts_that_run_through_an_outage_finish_once(arena, rng, rounds):
    """Valkey is away for longer than a lease: the attempts end with one result each, and none is repeated."""
    for _ in range(rounds):
        held = arena.hold()
        behind = arena.client.submit_many("write_effect", rng.randint(0, 5))
        mark = arena.worker.mark()
        rng.choice([arena.valkey.stop, arena.valkey.kill])()
        arena.worker.wait_for_event("store.unreachable", since=mark)
        endure(LEASE_SECONDS * 1.5)
        early, late = held[: len(held) // 2], held[len(held) // 2 :]
        arena.marshal.let_go(*early)
        arena.valkey.start()
        arena.wait_until_serving("chaos")
        arena.marshal.let_go(*late)
        for name in [*behind, *(arrival.operation for arrival in held)]:
            arena.finished(name)

    kept = judge(arena)
    assert {tuple(outcomes(metadata)) for metadata in kept.values()} == {(SUCCESS,)}


@experiment(long=2)
def test_11_a_worker_that_was_frozen_for_longer_than_its_lease_is_fenced_off(arena, rounds):
    """Another has taken over by then: the settle of the first is refused and recorded, the second's counts."""
    for _ in range(rounds):
        held, mark = arena.hold(), arena.worker.mark()
        freeze(arena.worker)
        with arena.another_worker() as other:
            again = [arena.marshal.arrived(arrival.operation, attempt=2) for arrival in held]
            arena.marshal.let_go(*held)
            thaw(arena.worker)
            for arrival in held:
                arena.worker.wait_for_event("attempt.fenced", since=mark, operation=arrival.operation)
                assert arena.stored(arrival.operation, "st") == [str(ops.OPERATION_STATE_RUNNING)]
            arena.marshal.let_go(*again)
            kept = [arena.finished(arrival.operation)[1] for arrival in held]

            assert [outcomes(metadata) for metadata in kept] == [[LOST, SUCCESS]] * arena.slots
            assert {metadata.worker.rpartition(":")[2] for metadata in kept} == {str(other.pid)}

    judge(arena)


@experiment(long=2)
def test_14_a_long_attempt_keeps_its_lease_through_wrong_clocks_and_freezes(arena, rng, rounds):
    """Four leases long, another worker's clock 30 s off, Valkey frozen for two leases: one run, in the first worker."""
    offset = rng.choice([-30, 30])
    with arena.another_worker(CHAOS_CLOCK_OFFSET_SECONDS=str(offset)):
        for _ in range(rounds):
            held = [arena.marshal.arrived(arena.client.submit("hold")) for _ in range(2 * arena.slots)]
            since = server_time(arena)
            with frozen(arena.valkey):
                endure(2 * LEASE_SECONDS)
            until(lambda since=since: server_time(arena) > since + 4 * LEASE_SECONDS, "four leases", 60)
            arena.marshal.let_go(*held)
            for arrival in held:
                arena.finished(arrival.operation)

        kept = judge(arena)

    assert [metadata for metadata in kept.values() if LOST in outcomes(metadata)] == []


def server_time(arena):
    seconds, microseconds = arena.redis.time()
    return seconds + microseconds / 1e6
