"""Attempts that heed neither their timeout nor a cancellation are ended in their place; nobody beside them is harmed.

FAULTS has no number for it.
"""

import pytest
from google.longrunning import operations_pb2

from tests.chaos.forms import experiment
from tests.chaos.oracle import CANCELLED_OUTCOME, RETRIED, SUCCESS, judge

pytestmark = pytest.mark.slow

ALL_POOLS = ("threads", "prefork", "solo")


def outcomes(kept):
    return [attempt.outcome for attempt in kept.attempts]


@experiment(long=2, pools=ALL_POOLS, short_pools=("threads", "prefork"))
def test_22_an_attempt_that_heeds_nothing_is_ended_by_force_and_its_slot_comes_back(arena, rng, rounds):
    """One outlives its timeout and is followed by attempt 2, one its cancellation; what runs beside them runs once."""
    pid, cancelled, overrun, unharmed = arena.worker.pid, [], [], []
    for _ in range(rounds):
        for ended, end in rng.sample([(overrun, outlive_the_timeout), (cancelled, outlive_a_cancellation)], 2):
            beside = arena.hold(arena.slots - 1)
            waiting = arena.client.submit_many("write_effect", rng.randint(1, 5))
            ended.append(end(arena, beside))
            unharmed += [*waiting, *(arrival.operation for arrival in beside)]

    kept = judge(arena, cancelled=cancelled)
    assert {tuple(outcomes(kept[name])) for name in overrun} == {(RETRIED, SUCCESS)}
    assert {kept[name].attempts[0].error.code for name in overrun} == {4}
    assert {tuple(outcomes(kept[name])) for name in cancelled} == {(CANCELLED_OUTCOME,)}
    assert {tuple(outcomes(kept[name])) for name in unharmed} == {(SUCCESS,)}
    assert (arena.worker.pid, arena.worker.running) == (pid, True)


def outlive_the_timeout(arena, beside):
    """Attempt 1 is never let go; 2 is, in a worker that has its slots again. The operation's name."""
    name = arena.client.submit("ignore_cancel")
    arena.marshal.arrived(name, attempt=1)
    arena.wait_for_attempt(name, RETRIED)
    arena.marshal.let_go(*beside)
    arena.marshal.let_go(arena.marshal.arrived(name, attempt=2))
    arena.finished(name)
    return name


def outlive_a_cancellation(arena, beside):
    """The operation is cancelled while its attempt goes on. Its name."""
    name = arena.client.submit("ignore_cancel")
    arena.marshal.arrived(name)
    arena.operations("chaos").CancelOperation(operations_pb2.CancelOperationRequest(name=name))
    arena.finished(name)
    arena.marshal.let_go(*beside)
    return name
