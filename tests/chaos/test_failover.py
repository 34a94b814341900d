"""The primary dies under load and Sentinels promote its replica: what was replicated goes on, what was not is known."""

import pytest
from chassis.testing.failover import ReplicatedValkey

from tests.chaos.arena import Arena, frozen
from tests.chaos.forms import experiment
from tests.chaos.oracle import judge
from tests.stack import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MANY = 20


@pytest.fixture
def servers(tmp_path):
    with ReplicatedValkey(tmp_path / "servers") as started:
        yield started


@pytest.fixture
def arena(request, tmp_path, rng, servers, durability):
    """One whose processes know of Sentinels alone."""
    environment = {
        "WAYBILL_REDIS_URL": servers.url,
        "WAYBILL_DURABILITY": durability,
        "WAYBILL_SHARED_STATE_DIR": "1",
    }
    with Arena(tmp_path, request.param, environment, servers.primary) as own:
        own.begin(rng)
        yield own


@pytest.mark.parametrize("durability", [pytest.param("replicated", marks=pytest.mark.thorough), "always"])
@experiment(long=2)
def test_20_a_failover_under_load_is_followed_and_loses_no_more_than_is_said(arena, servers, durability, rounds):
    """A lagging replica takes over. `replicated`: nothing acknowledged is lost. `always`: what the replica lacked is.

    Nobody is restarted, and all works again once the dead server has come back as a replica.
    """
    pids, forgotten = [process.pid for process in arena.processes], set()
    for _ in range(rounds):
        ended = arena.client.submit_many("write_effect", MANY)
        for name in ended:
            arena.finished(name)
        arena.hold()
        servers.replicate()
        dead, promoted = servers.primary, servers.replica
        with arena.load() as load:
            load.wait_for(MANY)
            servers.replicate()
            replicated = set(arena.client.accepted.values())
            with frozen(promoted):
                lag(arena, load, durability)
                dead.kill()
            servers.wait_for_failover(dead)
            servers.start()
            arena.look_at(promoted)
            arena.wait_until_serving("chaos")
            acknowledged = set(arena.client.accepted.values())
            load.wait_for(MANY)
        arena.marshal.open()
        forgotten |= acknowledged - set(ended)

        lost = forget_the_lost(arena)
        assert lost <= acknowledged - replicated
        assert bool(lost) == (durability == "always")

    judge(arena, forgotten=forgotten)
    assert [process.pid for process in arena.processes] == pids


def lag(arena, load, durability):
    """With `always` more is acknowledged than the replica has. With `replicated` clients are told to come again.

    What was on its way to the replica would still arrive there: its connection is closed.
    """
    arena.redis.client_kill_filter(_type="replica")
    if durability == "always":
        load.wait_for(MANY)
    else:
        refused = len(arena.client.repeats)
        until(lambda: len(arena.client.repeats) > refused, "an acceptance that nobody confirms is refused")


def forget_the_lost(arena):
    """Names that clients were told and the store has not; they are no longer accounted for."""
    there = {f"operations/chaos/{id_.decode()}" for id_ in arena.new_ids()}
    accepted = arena.client.accepted
    lost = {name for name in accepted.values() if name not in there}
    for request_id in [request_id for request_id, name in accepted.items() if name in lost]:
        accepted.pop(request_id)
    return lost
