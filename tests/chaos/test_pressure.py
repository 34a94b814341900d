"""More than the engine can do at once: leases to rescue under load, a flooded queue, nobody there to work."""

import secrets
import threading

import pytest
from chassis import store_calls

from tests.chaos.arena import GRACE_SECONDS, LEASE
from tests.chaos.forms import experiment
from tests.chaos.oracle import LOST, RETRIED, SUCCESS, judge, wait_until_final
from tests.stack import until

pytestmark = pytest.mark.slow

#: What no script may take of the server, which does one thing at a time; nor an event loop.
STALL_MICROSECONDS = 250_000
#: Of the other queue, for each operation of the first; and what a worker may have fetched before.
SHARE, PREFETCH = 5, 300
QUEUE, TASK = "chaos.default", "chaos.write_effect"


class Changes(threading.Thread):
    """Changes the service's keys as fast as one connection can, at least 2,000 times a second on a quiet machine."""

    BATCH = 50

    def __init__(self, arena):
        super().__init__(daemon=True)
        self._arena = arena
        self._over = threading.Event()
        self._pause = self.BATCH / 2_500

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self._over.set()
        self.join()
        self._arena.redis.delete(self._arena.keys.named("chaos:changes"))

    def run(self):
        while not self._over.wait(self._pause):
            pipeline = self._arena.redis.pipeline()
            for _ in range(self.BATCH):
                pipeline.zadd(self._arena.keys.named("chaos:changes"), {secrets.token_hex(4): 0})
            pipeline.execute()


def abandon(arena, count):
    """A worker takes as many operations, begins every other one, and is never heard of again."""
    store = arena.store("chaos")
    call = store_calls.fetch(count, [QUEUE], [TASK], session=f"gone{secrets.token_hex(4)}", lease=LEASE)
    deliveries = store.run(call).deliveries
    for number, each in enumerate(deliveries):
        if number % 2:
            token, span = secrets.token_hex(8), secrets.token_bytes(8)
            begin = store_calls.begin(
                each.operation_id, each.delivery, worker="chaos@gone:1", token=token, span=span, lease=LEASE
            )
            assert isinstance(store.run(begin), store_calls.Begun)
    assert len(deliveries) == count


@experiment(long=2)
def test_16_two_hundred_leases_are_rescued_under_load_without_a_stall(arena, rounds):
    """A worker dies with 200 deliveries under 2,500 changes a second: all run, and no script holds the server up."""
    for _ in range(rounds):
        arena.worker.stop(GRACE_SECONDS)
        arena.client.submit_many("write_effect", 200)
        arena.redis.config_set("slowlog-log-slower-than", STALL_MICROSECONDS)
        arena.redis.slowlog_reset()
        with Changes(arena):
            abandon(arena, 200)
            arena.worker.start()
            until(lambda: not arena.redis.exists(arena.keys.named("leases")), "all leases are rescued", 60)
        wait_until_final(arena)

        assert arena.redis.slowlog_get() == []

    kept = judge(arena)
    outcomes = [tuple(attempt.outcome for attempt in metadata.attempts) for metadata in kept.values()]
    assert sorted(outcomes) == sorted([(SUCCESS,)] * 100 * rounds + [(LOST, SUCCESS)] * 100 * rounds)


@experiment(short=400, long=3_000)
def test_21_a_flooded_bulk_queue_does_not_delay_the_default_queue(arena, rounds):
    """Thousands wait in bulk; what then comes on the default queue ends while nearly all of them still wait."""
    arena.worker.stop(GRACE_SECONDS)
    flood = arena.client.submit_many("bulk_write_effect", rounds)
    arena.worker.start()

    urgent = arena.client.submit_many("write_effect", 20)
    for name in urgent:
        arena.finished(name)

    kept = judge(arena)
    last = max(kept[name].end_time.ToNanoseconds() for name in urgent)
    before = sum(kept[name].end_time.ToNanoseconds() < last for name in flood)
    first = min(kept[name].create_time.ToNanoseconds() for name in urgent)
    done_by_then = sum(kept[name].end_time.ToNanoseconds() < first for name in flood)
    # Queues take turns: for each of the 20 at most a few of bulk, beside what had been fetched.
    assert before - done_by_then < SHARE * len(urgent) + PREFETCH


@experiment(long=3)
def test_21_what_falls_due_without_a_worker_starts_when_one_comes(arena, rng, rounds):
    """Scaled to zero: scheduled work and retries fall due, nothing expires or gets lost, a new worker runs it all."""
    for _ in range(rounds):
        names = [arena.client.submit("retry_until", times=1, delay_ms=200) for _ in range(5)]
        for name in names:
            arena.wait_for_attempt(name, RETRIED)
        arena.worker.stop(GRACE_SECONDS)
        names += [arena.client.submit("write_effect", after=rng.random() / 2) for _ in range(10)]
        arena.wait_until_due(*names)
        arena.worker.start()
        for name in names:
            arena.finished(name)

    judge(arena)
