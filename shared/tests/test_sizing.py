"""How many workers a load wants: as a table, and in simulation with workers that take time to start and to drain."""

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import pytest
from chassis.sizing import Load, Memory, Policy, decide, needed
from hypothesis import given, settings
from hypothesis import strategies as st

POLICY = Policy(min_workers=0, max_workers=10, slots=8, target=20, target_age=timedelta(seconds=30))


def load(depth=0, in_flight=0, age=0.0):
    return Load(depth, in_flight, timedelta(seconds=age))


@pytest.mark.parametrize(
    ("facts", "workers", "expected", "why"),
    [
        (load(), 0, 0, "nothing to do, nobody there"),
        (load(), 5, 0, "nothing to do"),
        (load(depth=1), 0, 1, "up from zero for one operation"),
        (load(in_flight=1), 1, 1, "what runs keeps its worker"),
        (load(depth=20), 1, 1, "what one worker is meant for"),
        (load(depth=21), 1, 1, "a little more changes nothing"),
        (load(depth=23), 1, 2, "clearly more"),
        (load(depth=23), 0, 2, "from zero there is nothing to leave alone"),
        (load(depth=37, in_flight=0), 2, 2, "a little less changes nothing"),
        (load(depth=5_000), 1, 10, "never more than the maximum"),
        (load(depth=10, in_flight=8, age=31), 1, 2, "the oldest waits too long"),
        (load(depth=10, in_flight=8, age=3_600), 1, 2, "however long, twice as many are enough for a step"),
        (load(depth=1, in_flight=0, age=3_600), 1, 1, "one operation needs no second worker"),
        (load(depth=2, in_flight=40, age=3_600), 5, 6, "nor more than have something to run"),
        (load(depth=0, in_flight=40), 5, 5, "all slots are busy: none is taken away"),
        (load(depth=0, in_flight=400), 5, 10, "what was fetched ahead counts as work to do"),
        (load(depth=0, in_flight=10), 5, 2, "the slots of two hold what runs, with room to spare"),
    ],
)
def test_what_a_load_needs(facts, workers, expected, why):
    """The largest of three: by how much there is to do, by age, by what runs."""
    assert needed(facts, workers, POLICY) == expected, why


def test_without_a_target_for_age_it_plays_no_part():
    """0 switches it off."""
    policy = Policy(max_workers=10, target=100, target_age=timedelta())

    assert needed(load(depth=50, in_flight=8, age=9_999), 1, policy) == 1


def decided(*steps, policy=POLICY, workers=1):
    """How many workers there are after each (second, load), each decision carried out at once."""
    memory, sizes = Memory(), []
    for now, facts in steps:
        decision = decide(facts, workers, memory, policy, now)
        workers, memory = decision.workers, decision.memory
        sizes.append(workers)
    return sizes


def test_workers_are_added_at_once_and_at_most_doubled():
    """And not again before those that were added could help: five seconds."""
    busy = load(depth=5_000)

    sizes = decided((0, busy), (1, busy), (4.9, busy), (5, busy), (7, busy), (10, busy), (15, busy))

    assert sizes == [2, 2, 2, 4, 4, 8, 10]


def test_workers_are_taken_away_when_fewer_were_enough_for_the_whole_window():
    """Down to what was needed most in it, so that one quiet moment takes nobody away."""
    steps = [(0, load(in_flight=60)), (30, load(in_flight=20)), (59, load()), (60, load()), (89, load()), (91, load())]

    assert decided(*steps, workers=10) == [10, 10, 10, 4, 4, 0]
    assert decided((0, load()), (30, load()), (59, load()), workers=4) == [4, 4, 4]


def test_growth_begins_the_window_anew():
    """Workers that were just added are not taken away by what was seen before them."""
    steps = [(0, load()), (59, load(depth=200)), (60, load()), (118, load()), (119.5, load())]

    assert decided(*steps, workers=2) == [2, 4, 4, 4, 0]


def test_bounds_hold_from_the_first_decision():
    """Too few are added and too many taken away without a wait."""
    policy = Policy(min_workers=2, max_workers=4)

    assert decided((0, load()), policy=policy, workers=0) == [2]
    assert decided((0, load(depth=999)), policy=policy, workers=9) == [4]


#: Of a simulated second.
TICKS = 20


@dataclass
class Fleet:
    """Workers in simulated time. A worker takes `start` seconds to be of use; one that drains finishes what it runs."""

    policy: Policy
    service_seconds: float
    start: float = 3.0
    now: float = 0.0
    starting: list[float] = field(default_factory=list)
    #: Of each worker the ends of what it runs.
    working: list[list[float]] = field(default_factory=list)
    draining: list[list[float]] = field(default_factory=list)
    waiting: deque = field(default_factory=deque)
    accepted: int = 0
    ended: int = 0
    memory: Memory = field(default_factory=Memory)
    sizes: list[int] = field(default_factory=list)

    @property
    def workers(self):
        return len(self.starting) + len(self.working)

    def second(self, arrivals):
        """A second passes: work arrives, runs and ends; then it is decided."""
        self.accepted += arrivals
        for tick in range(TICKS):
            at = self.now + tick / TICKS
            share = arrivals * (tick + 1) // TICKS - arrivals * tick // TICKS
            self.waiting.extend([at] * share)
            self._tick(at)
        self.now += 1
        self._decide()

    def _tick(self, at):
        for worker in [*self.working, *self.draining]:
            left = [end for end in worker if end > at + 1e-9]
            self.ended += len(worker) - len(left)
            worker[:] = left
        self.draining = [worker for worker in self.draining if worker]
        ready = [born for born in self.starting if born + self.start <= at]
        self.starting = [born for born in self.starting if born not in ready]
        self.working += [[] for _ in ready]
        for worker in self.working:
            while self.waiting and len(worker) < self.policy.slots:
                self.waiting.popleft()
                worker.append(at + self.service_seconds)

    def _decide(self):
        running = sum(map(len, [*self.working, *self.draining]))
        age = self.now - self.waiting[0] if self.waiting else 0
        facts = Load(len(self.waiting), running, timedelta(seconds=age))
        decision = decide(facts, self.workers, self.memory, self.policy, self.now)
        self.memory = decision.memory
        for _ in range(decision.workers - self.workers):
            self.starting.append(self.now + len(self.starting) / 1e6)
        for _ in range(self.workers - decision.workers):
            if self.starting:
                self.starting.pop()
            else:
                self.draining.append(self.working.pop())
        self.sizes.append(decision.workers)

    @property
    def turns(self):
        """How often growth was followed by shrinking, or the other way round."""
        steps = [after - before for before, after in pairwise(self.sizes) if after != before]
        return sum(one * other < 0 for one, other in pairwise(steps))


def test_a_burst_takes_one_worker_up_and_back_down():
    """5,000 operations from one worker: up to the maximum, all of it done, down to one again, in one wave."""
    policy = Policy(min_workers=1, max_workers=6, down_window=timedelta(seconds=30))
    fleet = Fleet(policy, service_seconds=0.1)
    fleet.second(0)
    fleet.second(5_000)
    for _ in range(120):
        fleet.second(0)

    assert (fleet.sizes[0], max(fleet.sizes), fleet.sizes[-1]) == (1, 6, 1)
    assert (fleet.ended, fleet.turns) == (5_000, 1)


def test_up_from_zero_and_back_to_zero():
    """One operation wakes one worker; when it has been idle for the window it goes."""
    fleet = Fleet(Policy(max_workers=4), service_seconds=0.5)
    fleet.second(1)
    for _ in range(80):
        fleet.second(0)

    assert (fleet.sizes[0], max(fleet.sizes), fleet.sizes[-1], fleet.ended) == (1, 1, 0, 1)


@settings(deadline=None, max_examples=25)
@given(
    rate=st.integers(1, 60),
    service_seconds=st.sampled_from([0.1, 0.2, 1.0, 2.5]),
    slots=st.sampled_from([1, 2, 8]),
)
def test_a_steady_load_settles(rate, service_seconds, slots):
    """Within ten minutes it neither flaps nor falls behind: no turn in the last five, and what waits does not grow."""
    fleet = Fleet(Policy(min_workers=1, max_workers=200, slots=slots), service_seconds)
    for _ in range(300):
        fleet.second(rate)
    settled = len(fleet.sizes)
    waiting = len(fleet.waiting)
    for _ in range(300):
        fleet.second(rate)

    fleet.sizes = fleet.sizes[settled:]
    assert fleet.turns == 0
    assert len(fleet.waiting) <= waiting + rate


@settings(deadline=None, max_examples=25)
@given(
    arrivals=st.lists(st.integers(0, 400), min_size=10, max_size=90),
    service_seconds=st.sampled_from([0.1, 1.0, 7.0]),
    bounds=st.tuples(st.integers(0, 3), st.integers(3, 12)),
)
def test_any_load_stays_within_bounds_and_is_done(arrivals, service_seconds, bounds):
    """Whatever arrives: never out of bounds, each accepted operation ends once, and at most one turn a window."""
    lowest, highest = bounds
    policy = Policy(min_workers=lowest, max_workers=highest, down_window=timedelta(seconds=20))
    fleet = Fleet(policy, service_seconds)
    for count in arrivals:
        fleet.second(count)
    for _ in range(4_000):
        if fleet.ended == fleet.accepted:
            break
        fleet.second(0)

    assert fleet.ended == fleet.accepted
    assert all(lowest <= size <= highest for size in fleet.sizes)
    assert fleet.turns <= 2 * (1 + len(fleet.sizes) / 20)
