"""Accept to begin when idle and at half load; settle to the answer of WaitOperation. Absolute, so for orientation."""

from __future__ import annotations

import json
from collections.abc import Iterator

import sides
from end_to_end import WARM_UP, round_size
from figures import Row, percentile
from processes import output
from sides import Side

WAITERS = 1_000


def _milliseconds(side: Side, kind: str, number: int) -> list[float]:
    """What `measure_latency.py` finds."""
    return json.loads(output("measure_latency.py", kind, str(number), BENCH_REDIS_URL=side.url, **side.environment))


def _rows(what: str, rounds: list[list[float]], *, most: float | None = None) -> Iterator[Row]:
    note = f"{len(rounds[0]):,} a round"
    yield Row(f"{what}, p50", [percentile(values, 50) for values in rounds], unit=" ms", note=note)
    yield Row(f"{what}, p99", [percentile(values, 99) for values in rounds], unit=" ms", most=most, note=note)


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """A gateway and a worker with threads of eight, telemetry on."""
    count, operations = plan
    with sides.waybill("threads", 8) as side:
        size = round_size(side)
        half = round(side.drive(size, WARM_UP // 5).rate / 2)
        idle, loaded, answered = [], [], []
        for _ in range(count):
            idle.append(_milliseconds(side, "idle", operations or 200))
            loaded.append(_milliseconds(side, "load", half))
            answered.append(_milliseconds(side, "answers", WAITERS))
    yield from _rows("accept to begin, idle", idle, most=50)
    yield from _rows(f"accept to begin, at half load ({half:,}/s)", loaded)
    yield from _rows(f"settle to the answer of WaitOperation, {WAITERS:,} waiters", answered, most=50)
