"""Accept to the end of the last: Waybill against stock Celery and its peers, and against itself.

Both sides of a comparison are up all the while; one at a time is driven. An idle side uses 1 to 2 % of a core.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

import sides
from figures import Row, ratio
from sides import Side

WARM_UP = 500
ROUND_SECONDS = 4.0
#: Least and most operations of a round: enough to measure, and to end on a slow machine.
FEWEST, MOST = 300, 40_000

Start = Callable[[], contextlib.AbstractContextManager[Side]]
Plan = tuple[int, int | None]


def compare(what: str, start: Start, start_baseline: Start, plan: Plan, *, least: float | None = None) -> Row:
    """Operations per second of both, in interleaved rounds; beside them the CPU time of all processes."""
    count, operations = plan
    with start() as ours, start_baseline() as baseline:
        sizes = [operations or round_size(side) for side in (ours, baseline)]
        pairs = []
        for _ in range(count):
            first, second = (side.drive(size, WARM_UP // 5) for side, size in zip((ours, baseline), sizes, strict=True))
            pairs.append((first, second))
    ours_us, baseline_us = (
        statistics.median(result.cpu_us_of_all for result in side) for side in zip(*pairs, strict=True)
    )
    row = ratio(what, [(first.rate, second.rate) for first, second in pairs], least=least)
    return replace(row, note=f"{row.note}, {ours_us:,.0f} against {baseline_us:,.0f} µs of CPU each")


def round_size(side: Side) -> int:
    """What takes it about ROUND_SECONDS, from a first round that warms it up."""
    rate = side.drive(WARM_UP // side.weight, WARM_UP // side.weight).rate
    return max(FEWEST // side.weight, min(MOST, round(rate * ROUND_SECONDS)))


def against_stock(pool: sides.Pool, slots: int, least: float) -> Callable[[Plan], Iterator[Row]]:
    """The same pool and concurrency, results on, late acknowledgement."""

    def rows(plan: Plan) -> Iterator[Row]:
        what = f"end to end / stock Celery with results, {pool} of {slots}"
        yield compare(what, lambda: sides.waybill(pool, slots), lambda: sides.stock(pool, slots), plan, least=least)

    return rows


def threaded(*, workers: int = 1, telemetry: bool = True, events: bool = False) -> Start:
    """Worker processes with eight threads each."""
    return lambda: sides.waybill("threads", 8, workers=workers, telemetry=telemetry, events=events)


def against_dramatiq(plan: Plan) -> Iterator[Row]:
    """Bare no-ops: Dramatiq keeps no results and no operations."""
    yield compare("2 processes of 8 threads / Dramatiq the same", threaded(workers=2), sides.dramatiq, plan, least=0.8)


def against_taskiq(plan: Plan) -> Iterator[Row]:
    """For orientation."""
    yield compare("2 processes of 8 threads / taskiq on a stream, 2 processes", threaded(workers=2), sides.taskiq, plan)


def against_rq(plan: Plan) -> Iterator[Row]:
    """For orientation; RQ forks for each job."""
    yield compare("2 processes of 8 threads / RQ, 2 workers", threaded(workers=2), sides.rq, plan)


def telemetry(plan: Plan) -> Iterator[Row]:
    """Spans of every operation exported by the gateway, against no exporter."""
    yield compare("end to end, telemetry on / off", threaded(), threaded(telemetry=False), plan, least=0.8)


def celery_events(plan: Plan) -> Iterator[Row]:
    """Celery's task events, which Flower listens to: sent, and dumped by one listener."""
    yield compare("end to end, Celery's task events (-E) on / off", threaded(events=True), threaded(), plan)
