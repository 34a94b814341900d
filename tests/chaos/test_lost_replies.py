"""The store has done it, and nobody hears: replies that are cut, connections that are reset, a gateway that dies."""

import threading

import pytest

from tests.chaos.forms import experiment
from tests.chaos.oracle import SUCCESS, judge
from tests.chaos.proxy import Proxy

pytestmark = pytest.mark.slow


@experiment(short=5, long=50)
def test_09_connections_that_are_killed_all_the_time_repeat_no_effect(arena, rng, rounds):
    """CLIENT KILL of all connections under load, again and again: one effect per id, and what runs is not disturbed."""
    with arena.kept_in_view():
        (held,) = arena.hold(1)
        with arena.load() as load:
            for _ in range(rounds):
                load.wait_for(rng.randint(1, 20))
                arena.redis.client_kill_filter(_type="normal", skipme=False)
        arena.marshal.let_go(held)

        kept = judge(arena)

    assert [attempt.outcome for attempt in kept[held.operation].attempts] == [SUCCESS]


@experiment(short=2, long=8)
def test_13_replies_to_accept_and_settle_that_are_cut_are_one_id_and_one_effect(arena, rng, rounds):
    """Each is cut one to three times in a row: the client gets the same id, the settle counts once."""
    with (
        Proxy(arena.valkey.url) as before_gateway,
        Proxy(arena.valkey.url) as before_worker,
        arena.changed(arena.gateway, WAYBILL_REDIS_URL=before_gateway.url),
        arena.changed(arena.worker, WAYBILL_REDIS_URL=before_worker.url),
    ):
        arena.wait_until_serving("chaos")
        for _ in range(rounds):
            before_gateway.cut_replies("accept", rng.randint(1, 3))
            before_worker.cut_replies("settle", rng.randint(1, 3))
            for name in arena.client.submit_many("write_effect", rng.randint(1, 20)):
                arena.finished(name, timeout=60)
        kept = judge(arena)

    assert before_gateway.cut.count("accept") >= rounds
    assert before_worker.cut.count("settle") >= rounds
    assert {len(metadata.attempts) for metadata in kept.values()} == {1}


@experiment(short=2, long=8)
def test_13_replies_to_fetch_and_begin_that_are_cut_cost_no_attempt(arena, rng, rounds):
    """What was fetched and not heard of comes again, a begin is repeated: each attempt is the first, and runs once."""
    with Proxy(arena.valkey.url) as proxy, arena.changed(arena.worker, WAYBILL_REDIS_URL=proxy.url):
        for _ in range(rounds):
            proxy.cut_replies("begin", rng.randint(1, 3))
            held = arena.hold()
            # No slot is free: the next fetch is one that brings something.
            proxy.cut_replies("fetch", 1)
            behind = arena.client.submit_many("write_effect", rng.randint(1, 10))
            arena.marshal.let_go(*held)
            for name in [*behind, *(arrival.operation for arrival in held)]:
                arena.finished(name, timeout=60)
        kept = judge(arena)

    assert proxy.cut.count("fetch") >= rounds
    assert "begin" in proxy.cut
    assert {tuple(attempt.outcome for attempt in metadata.attempts) for metadata in kept.values()} == {(SUCCESS,)}


@experiment(short=1, long=8)
def test_17_a_gateway_killed_between_accept_and_reply_has_accepted_once(arena, rng, rounds):
    """The store has it, the gateway is killed; the client comes again with its request_id and gets that operation."""
    with Proxy(arena.valkey.url) as proxy, arena.changed(arena.gateway, WAYBILL_REDIS_URL=proxy.url):
        for _ in range(rounds):
            arena.wait_until_serving("chaos")
            proxy.hold_replies("accept")
            work = arena.client.work("write_effect")
            client = threading.Thread(target=arena.client.insist, args=(work,))
            client.start()
            proxy.wait_until_held()
            (accepted,) = set(arena.new_ids()) - {name.rpartition("/")[2].encode() for name in _names(arena)}
            arena.gateway.kill()
            proxy.reset()
            arena.gateway.start()
            client.join()

            assert arena.client.accepted[work.request_id].endswith(accepted.decode())

    judge(arena)


def _names(arena):
    return arena.client.accepted.values()
