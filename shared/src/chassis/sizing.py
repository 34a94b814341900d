"""How many workers a load wants: a pure decision, for KEDA's scaler and for `waybill up --autoscale`.

`needed` says what a load asks for at this moment. `decide` adds what a moment does not tell: it adds workers at once,
but at most as many as there are and not again before those could help, and takes some away only when fewer have been
enough for a while. With KEDA, the HorizontalPodAutoscaler does that part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

#: Operations, waiting and running, that one worker is meant for.
DEFAULT_TARGET: Final = 20
#: Above this age of the oldest due operation there are too few workers.
DEFAULT_TARGET_AGE: Final = timedelta(seconds=30)
#: So far from its target a load is left alone, as in Kubernetes' HorizontalPodAutoscaler.
TOLERANCE: Final = 0.1
#: Workers are not taken away below what keeps so much of the slots of the rest busy.
BUSY: Final = 0.8


@dataclass(frozen=True, slots=True)
class Load:
    """What a service, or one queue of it, has to do. Queues that are paused count with what runs alone."""

    depth: int = 0
    in_flight: int = 0
    oldest_age: timedelta = timedelta()

    @property
    def operations(self) -> int:
        """Due or in flight."""
        return self.depth + self.in_flight


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted of the workers of a service.

    Args:
        slots: attempts that one worker runs at a time.
        target: operations, waiting and running, that one worker is meant for.
        target_age: how old the oldest due operation may become; 0: age plays no part.
        up_pause: from adding workers until more are added; they need it to start.
        down_window: workers are taken away when fewer were enough for so long.
    """

    min_workers: int = 0
    max_workers: int = 1_000
    slots: int = 8
    target: int = DEFAULT_TARGET
    target_age: timedelta = DEFAULT_TARGET_AGE
    up_pause: timedelta = timedelta(seconds=5)
    down_window: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier decisions leave for the next. Times are seconds of one clock."""

    #: When it was looked, and what was needed then; those of the last `down_window`.
    needs: tuple[tuple[float, int], ...] = ()
    #: The first look; None before it.
    began_at: float | None = None
    #: When workers were last added; None: never.
    grown_at: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, and what to remember."""

    workers: int
    memory: Memory


def needed_for_operations(load: Load, workers: int, policy: Policy) -> int:
    """Workers by how much there is to do; those that there are, where the target is missed by little."""
    wanted = load.operations / policy.target
    near = workers * (1 - TOLERANCE) <= wanted <= workers * (1 + TOLERANCE)
    return workers if workers and near else math.ceil(wanted)


def needed_for_age(load: Load, workers: int, policy: Policy) -> int:
    """Workers by how long the oldest waits, in proportion, at most twice those that there are; 0 where it is young.

    Never more than have something to run.
    """
    if not load.depth or not policy.target_age or load.oldest_age <= policy.target_age:
        return 0
    proportion = min(2.0, load.oldest_age / policy.target_age)
    return min(math.ceil(max(1, workers) * proportion), math.ceil(load.operations / policy.slots))


def needed_for_running(load: Load, workers: int, policy: Policy) -> int:
    """Workers that what runs keeps busy; never more than there are, so it keeps some and adds none."""
    running = min(load.in_flight, workers * policy.slots)
    return min(workers, math.ceil(running / (policy.slots * BUSY)))


def needed(load: Load, workers: int, policy: Policy) -> int:
    """Workers that the load asks for now, within the policy's bounds."""
    terms = (needed_for_operations, needed_for_age, needed_for_running)
    return _within(policy, max(term(load, workers, policy) for term in terms))


def decide(load: Load, workers: int, memory: Memory, policy: Policy, now: float) -> Decision:
    """How many workers there should be from now on, where so many work or start, those that drain left out.

    `memory` is that of the decision before, `Memory()` at first; `now` is seconds of a clock that does not jump.
    """
    need = needed(load, workers, policy)
    window = policy.down_window.total_seconds()
    recent = (*(seen for seen in memory.needs if now - seen[0] < window), (now, need))
    memory = replace(memory, needs=recent, began_at=now if memory.began_at is None else memory.began_at)
    wanted = _next_size(need, workers, memory, policy, now)
    return Decision(wanted, replace(memory, grown_at=now) if wanted > workers else memory)


def _next_size(need: int, workers: int, memory: Memory, policy: Policy, now: float) -> int:
    if _within(policy, workers) != workers:
        return _within(policy, workers)
    if need > workers:
        lately = memory.grown_at is not None and now - memory.grown_at < policy.up_pause.total_seconds()
        return workers if workers and lately else min(need, max(1, 2 * workers))
    steady_since = max(memory.began_at or 0.0, memory.grown_at or 0.0)
    if need < workers and now - steady_since >= policy.down_window.total_seconds():
        return min(workers, max(past for _, past in memory.needs))
    return workers


def _within(policy: Policy, workers: int) -> int:
    return max(policy.min_workers, min(policy.max_workers, workers))
