"""What the store takes from fetch to settle with a million operations waiting, against ten."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import TypeVar

import cycles
import sides
from chassis.store import Store
from chassis.store_calls import Call
from figures import Row

MILLION, TEN = 1_000_000, 10
#: Of one round.
CYCLES = 100

R = TypeVar("R")


def _microseconds(store: Store, base: str) -> float:
    """Of one operation, from fetch to settle; the accept that makes up for it is not counted."""
    spent = 0.0

    def run(call: Call[R]) -> R:
        nonlocal spent
        began = time.perf_counter()
        answer = store.run(call)
        spent += 0.0 if call.script == "accept" else time.perf_counter() - began
        return answer

    cycles.cycle(run, base)
    return spent / cycles.SIZE * 1e6


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """Both servers are up; cycles alternate between them. `operations` is how many wait instead of a million."""
    count, waiting = plan
    with sides.valkey() as full, sides.valkey() as empty:
        deep, shallow = (Store.connect("noop", server.url) for server in (full, empty))
        cycles.fill(deep, waiting or MILLION)
        cycles.fill(shallow, TEN)
        rounds = []
        for number in range(count + 1):
            bases = [f"{number}.{n}" for n in range(CYCLES)]
            times = [(_microseconds(deep, base), _microseconds(shallow, base)) for base in bases]
            rounds.append([statistics.median(side) for side in zip(*times, strict=True)])
    measured = rounds[1:]
    slow, quick = (statistics.median(side) for side in zip(*measured, strict=True))
    note = f"{slow:,.0f} against {quick:,.0f} µs an operation, of one connection"
    ratios = [with_many / with_few for with_many, with_few in measured]
    yield Row(f"fetch to settle, {waiting or MILLION:,} waiting / ten", ratios, most=1.2, note=note)
