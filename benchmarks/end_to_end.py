"""Accept to SUCCEEDED against stock Celery: the same no-op, the same pool, results kept, late acknowledgement."""

from __future__ import annotations

import sides

WARM_UP = 500


def rounds(pool: str, concurrency: int, count: int, operations: int) -> list[tuple[float, float]]:
    """Waybill's and stock Celery's rates in interleaved rounds; only one of the two runs at a time."""
    rates = []
    for _ in range(count):
        with sides.waybill(pool, concurrency) as side:
            ours = side.drive(operations, WARM_UP)
        with sides.stock(pool, concurrency) as side:
            stock = side.drive(operations // 3, WARM_UP // 3)
        rates.append((ours.rate, stock.rate))
    return rates
