"""Accept to the end of the last: Waybill against stock Celery and its peers, and against itself.

Both sides of a comparison are up all the while; one at a time is driven. An idle side uses 1 to 2 % of a core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import sides
from figures import Row, ratio
from sides import Side

WARM_UP = 500
ROUND_SECONDS = 4.0
#: Least and most operations of a round: enough to measure, and to end on a slow machine.
FEWEST, MOST = 300, 40_000

Start = Callable[[], contextlib.AbstractContextManager[Side]]
Plan = tuple[int, int | None]


def compare(start: Start, start_baseline: Start, plan: Plan) -> list[tuple[float, float]]:
    """Operations per second of both, in interleaved rounds."""
    count, operations = plan
    with start() as ours, start_baseline() as baseline:
        sizes = [operations or round_size(side) for side in (ours, baseline)]
        pairs = []
        for _ in range(count):
            first, second = (side.drive(size, WARM_UP // 5) for side, size in zip((ours, baseline), sizes, strict=True))
            pairs.append((first.rate, second.rate))
        return pairs


def round_size(side: Side) -> int:
    """What takes it about ROUND_SECONDS, from a first round that warms it up."""
    rate = side.drive(WARM_UP // side.weight, WARM_UP // side.weight).rate
    return max(FEWEST // side.weight, min(MOST, round(rate * ROUND_SECONDS)))


def against_stock(pool: sides.Pool, slots: int, least: float) -> Callable[[Plan], Iterator[Row]]:
    """The same pool and concurrency, results on, late acknowledgement."""

    def rows(plan: Plan) -> Iterator[Row]:
        pairs = compare(lambda: sides.waybill(pool, slots), lambda: sides.stock(pool, slots), plan)
        yield ratio(f"end to end / stock Celery with results, {pool} of {slots}", pairs, least=least)

    return rows


def two_threaded() -> contextlib.AbstractContextManager[Side]:
    """Two worker processes with eight threads each, as Dramatiq's."""
    return sides.waybill("threads", 8, workers=2)


def against_dramatiq(plan: Plan) -> Iterator[Row]:
    """Bare no-ops: Dramatiq keeps no results and no operations."""
    yield ratio("2 processes of 8 threads / Dramatiq the same", compare(two_threaded, sides.dramatiq, plan), least=0.8)


def against_taskiq(plan: Plan) -> Iterator[Row]:
    """For orientation."""
    yield ratio("2 processes of 8 threads / taskiq, streams, 2 processes", compare(two_threaded, sides.taskiq, plan))


def against_rq(plan: Plan) -> Iterator[Row]:
    """For orientation; RQ forks for each job."""
    yield ratio("2 processes of 8 threads / RQ, 2 workers", compare(two_threaded, sides.rq, plan))


def telemetry(plan: Plan) -> Iterator[Row]:
    """Spans of every operation exported by the gateway, against no exporter."""
    pairs = compare(lambda: sides.waybill("threads", 8), lambda: sides.waybill("threads", 8, telemetry=False), plan)
    yield ratio("end to end, telemetry on / off, threads of 8", pairs, least=0.8)


def celery_events(plan: Plan) -> Iterator[Row]:
    """Celery's task events, which Flower listens to: sent, and dumped by one listener."""
    pairs = compare(lambda: sides.waybill("threads", 8, events=True), lambda: sides.waybill("threads", 8), plan)
    yield ratio("end to end, Celery's task events (-E) on / off, threads of 8", pairs)
