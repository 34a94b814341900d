"""A child has been sent an operation and has not said that it accepts it, when its worker closes its connection.

Part of experiments 7 and 9 that chance seldom finds.
"""

import os
import signal
from contextlib import contextmanager

import pytest

from tests.chaos.arena import GRACE_SECONDS, endure
from tests.chaos.forms import experiment
from tests.chaos.oracle import SUCCESS, judge
from tests.stack import until

pytestmark = pytest.mark.slow

#: From the signal to the end of a worker's closing of its connection, many times over.
CLOSING_SECONDS = 1.0


@contextmanager
def sent_to_frozen_children(arena):
    """Names of operations that the worker has fetched, while its children stand still; they go on after the block."""
    held = arena.hold()
    arena.marshal.let_go(*held)
    for arrival in held:
        arena.finished(arrival.operation)
    for arrival in held:
        os.kill(arrival.pid, signal.SIGSTOP)
    try:
        names = arena.client.submit_many("write_effect", arena.slots)
        for name in names:
            until(lambda name=name: arena.stored(name, "dv")[0], f"{name} is fetched")
        yield names
    finally:
        for arrival in held:
            os.kill(arrival.pid, signal.SIGCONT)


def assert_each_ran_once(arena):
    kept = judge(arena)
    assert {tuple(attempt.outcome for attempt in metadata.attempts) for metadata in kept.values()} == {(SUCCESS,)}


@experiment(long=5, pools=("prefork",), short_pools=("prefork",))
def test_09_what_a_child_was_sent_outlives_the_connection(arena, rounds):
    """CLIENT KILL of what the worker listens on: it runs once, and is settled as soon as the child goes on."""
    for _ in range(rounds):
        mark = arena.worker.mark()
        with sent_to_frozen_children(arena) as names:
            endure(CLOSING_SECONDS / 2)
            # Without a free slot the worker waits for nothing but remote control.
            arena.redis.client_kill_filter(_type="pubsub")
            arena.worker.wait_for_line("Connection to broker lost", since=mark)
            endure(CLOSING_SECONDS)
        for name in names:
            arena.finished(name)

    assert_each_ran_once(arena)


@experiment(long=3, pools=("prefork",), short_pools=("prefork",))
def test_07_a_drain_waits_for_what_a_child_was_sent(arena, rounds):
    """SIGTERM: it runs once, in the worker that ends, or goes back unrun; no attempt is lost."""
    for _ in range(rounds):
        mark = arena.worker.mark()
        with sent_to_frozen_children(arena):
            endure(CLOSING_SECONDS / 2)
            arena.worker.terminate()
            arena.worker.wait_for_event("worker.draining", since=mark)
            endure(CLOSING_SECONDS)
        assert arena.worker.wait(GRACE_SECONDS) == 0
        arena.worker.start()

    assert_each_ran_once(arena)
