"""Workers die: frozen, in mid-attempt, child by child, by poison, again and again."""

import os
import signal
import time

import pytest

from tests.chaos.arena import GRACE_SECONDS, LEASE_SECONDS, RESCUE_SECONDS, freeze, kill_all
from tests.chaos.forms import experiment
from tests.chaos.oracle import LOST, RETRIED, SUCCESS, judge
from tests.stack import until

pytestmark = pytest.mark.slow

MAX_ATTEMPTS = 3


def outcomes(kept):
    return [attempt.outcome for attempt in kept.attempts]


def assert_begun_in_time(attempt, *, died, back):
    """Within the lease and five seconds of the death, or five seconds of when there was a worker again."""
    assert attempt.begin_time.ToNanoseconds() / 1e9 < max(died + LEASE_SECONDS, back) + RESCUE_SECONDS


@experiment(short=2, long=10)
def test_01_a_frozen_worker_that_is_killed_loses_nothing(arena, rng, rounds):
    """Freeze an idle worker, accept, SIGKILL it: all of it runs, once, and begins within the lease and five seconds."""
    last = []
    for _ in range(rounds):
        arena.client.submit_many("write_effect", rng.randint(0, 3))
        freeze(arena.worker)
        last = arena.client.submit_many("write_effect", rng.randint(1, 10))
        kill_all(arena.worker)
        died = time.time()
        arena.worker.start()
        back = time.time()

    kept = judge(arena)
    for name in last:
        assert_begun_in_time(kept[name].attempts[0], died=died, back=back)


@experiment(long=3, pools=("threads", "prefork", "solo"), short_pools=("threads", "prefork"))
def test_02_a_worker_killed_in_mid_attempt_is_followed_by_attempt_two(arena, rng, rounds):
    """SIGKILL the whole worker while all of its slots run and more waits: attempt 2 in time, in another worker."""
    for _ in range(rounds):
        held = arena.hold()
        behind = arena.client.submit_many("write_effect", rng.randint(1, 20))
        kill_all(arena.worker)
        died = time.time()
        arena.worker.start()
        back = time.time()
        again = [arena.marshal.arrived(arrival.operation, attempt=2) for arrival in held]
        arena.marshal.let_go(*again)

        for name in [*behind, *(arrival.operation for arrival in held)]:
            arena.finished(name)

    kept = judge(arena)
    for arrival in held:
        lost, second = kept[arrival.operation].attempts
        assert (lost.outcome, second.outcome) == (LOST, SUCCESS)
        assert lost.worker != second.worker
        assert_begun_in_time(second, died=died, back=back)


@experiment(short=2, long=10, pools=("prefork",), short_pools=("prefork",))
def test_03_a_killed_child_costs_one_attempt_and_the_worker_stays(arena, rng, rounds):
    """SIGKILL one pool child in mid-attempt: one retry there, none beside it, and the worker's process is the same."""
    pid = arena.worker.pid
    for _ in range(rounds):
        held = arena.hold()
        killed = rng.choice(held)
        os.kill(killed.pid, signal.SIGKILL)
        again = arena.marshal.arrived(killed.operation, attempt=2)
        arena.marshal.let_go(again, *held)
        kept = {arrival: arena.finished(arrival.operation)[1] for arrival in held}

        assert outcomes(kept.pop(killed)) == [LOST, SUCCESS]
        assert [outcomes(beside) for beside in kept.values()] == [[SUCCESS]] * (arena.slots - 1)

    judge(arena)
    assert arena.worker.running
    assert arena.worker.pid == pid


@experiment(long=3, pools=("prefork",), short_pools=("prefork",))
def test_04_a_task_that_always_kills_its_child_ends_as_a_dead_letter(arena, rng, rounds):
    """It runs `max_attempts` times, then no more; what runs beside it and what comes with it is unharmed."""
    pid, poison, beside = arena.worker.pid, [], []
    (held,) = arena.hold(1)
    for _ in range(rounds):
        beside += arena.client.submit_many("write_effect", rng.randint(1, 10))
        poison.append(arena.client.submit("kill_child", times=MAX_ATTEMPTS))
        beside += arena.client.submit_many("write_effect", rng.randint(1, 10))
        arena.finished(poison[-1], timeout=60)
    arena.marshal.let_go(held)

    kept = judge(arena, failed=poison)
    assert [outcomes(kept[name]) for name in poison] == [[LOST] * MAX_ATTEMPTS] * rounds
    assert {kept[name].last_error.message for name in poison} == {f"the worker died {MAX_ATTEMPTS} times"}
    assert [outcomes(kept[name]) for name in [held.operation, *beside]] == [[SUCCESS]] * (len(beside) + 1)
    assert arena.worker.pid == pid


@experiment(long=2, pools=("threads", "prefork", "solo"))
def test_05_a_task_that_kills_the_worker_ends_as_a_dead_letter(arena, rng, rounds):
    """It kills the main process `max_attempts` times, started again each time, and is not delivered again."""
    poison = []
    for _ in range(rounds):
        poison.append(arena.client.submit("kill_worker", times=MAX_ATTEMPTS))
        for _ in range(MAX_ATTEMPTS):
            arena.worker.wait(GRACE_SECONDS)
            arena.client.submit_many("write_effect", rng.randint(0, 3))
            # It may have the poison before it is ready, and be gone again.
            arena.worker.start(wait=False)
        arena.worker.wait_until_ready()
        arena.finished(poison[-1], timeout=60)

    kept = judge(arena, failed=poison)
    assert [outcomes(kept[name]) for name in poison] == [[LOST] * MAX_ATTEMPTS] * rounds
    assert {kept[name].last_error.message for name in poison} == {f"the worker died {MAX_ATTEMPTS} times"}


@experiment(long=2, pools=("threads",))
def test_05_what_always_runs_beside_poison_is_no_dead_letter(arena, rounds):
    """Poison takes its neighbour with it twice; the last attempt that each of them has is not beside the other's."""
    poison, beside = [], []
    for _ in range(rounds):
        arena.marshal.close()
        beside += [arrival.operation for arrival in arena.hold(1)]
        poison.append(arena.client.submit("kill_worker", times=MAX_ATTEMPTS))
        for _ in range(MAX_ATTEMPTS - 1):
            arena.worker.wait(GRACE_SECONDS)
            arena.worker.start(wait=False)
        last = (beside[-1], MAX_ATTEMPTS)
        until(lambda last=last: arena.marshal.has_arrived(*last) or not arena.worker.running, "either's last attempt")
        arena.marshal.open()
        arena.worker.wait(GRACE_SECONDS)
        arena.worker.start()
        for name in (poison[-1], beside[-1]):
            arena.finished(name, timeout=60)

    judge(arena, failed=poison)


@experiment(long=3)
def test_06_what_falls_due_on_a_busy_worker_that_is_killed_is_always_somewhere(arena, rng, rounds):
    """Retries and schedules fall due while every slot is taken, then SIGKILL: each id is always in one key."""
    with arena.kept_in_view():
        for _ in range(rounds):
            retried = [arena.client.submit("retry_until", times=1, delay_ms=300) for _ in range(rng.randint(1, 5))]
            for name in retried:
                arena.wait_for_attempt(name, RETRIED)
            held = arena.hold()
            due = [arena.client.submit("write_effect", after=0.2) for _ in range(rng.randint(1, 5))]
            arena.wait_until_due(*retried, *due)
            kill_all(arena.worker)
            arena.worker.start()
            arena.marshal.let_go(*(arena.marshal.arrived(arrival.operation, attempt=2) for arrival in held))
            for name in [*retried, *due]:
                arena.finished(name)

        judge(arena)


@experiment(short=2, long=5)
def test_07_a_rolling_restart_under_arrivals_loses_and_repeats_nothing(arena, rounds):
    """One of two workers drains and starts again while work arrives, in turn: no attempt is lost."""
    with arena.kept_in_view(), arena.another_worker() as other:
        with arena.load() as load:
            for turn in range(rounds):
                worker = (arena.worker, other)[turn % 2]
                assert worker.stop(GRACE_SECONDS) == 0
                load.wait_for(20)
                worker.start()
                load.wait_for(20)

        kept = judge(arena)

    assert [metadata for metadata in kept.values() if LOST in outcomes(metadata)] == []
