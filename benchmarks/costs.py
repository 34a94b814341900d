"""CPU microseconds per operation, by process: `python benchmarks/costs.py [SIDE...]`.

From the processes' own CPU times over one run each, until the last span is exported: meaningful on a busy machine,
where rates are not. Sides are waybill and stock with a pool, as waybill-threads; all of them by default.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import sides
from sides import Result, Side

Start = Callable[[], contextlib.AbstractContextManager[Side]]

SIDES: dict[str, Start] = {
    "waybill-threads": lambda: sides.waybill("threads", 8),
    "waybill-solo": lambda: sides.waybill("solo", 1),
    "waybill-prefork": lambda: sides.waybill("prefork", 2),
    "waybill-silent": lambda: sides.waybill("threads", 8, telemetry=False),
    "stock-threads": lambda: sides.stock("threads", 8),
    "stock-solo": lambda: sides.stock("solo", 1),
    "stock-prefork": lambda: sides.stock("prefork", 2),
}
COLUMNS = ("driver", "server", "worker", "gateway", "span receiver")
#: Where the span receiver runs is not Waybill's cost.
NOT_OURS = "span receiver"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="*", metavar="SIDE", help=f"some of {', '.join(SIDES)}")
    parser.add_argument("--operations", type=int, default=5_000, help="operations of each run (default 5000)")
    options = parser.parse_args()
    if unknown := set(options.sides) - SIDES.keys():
        parser.error(f"unknown: {', '.join(unknown)}")
    print(f"{'CPU µs per operation':<22}" + "".join(f"{name:>14}" for name in COLUMNS) + f"{'sum':>8}{'rate/s':>9}")
    for name in options.sides or SIDES:
        with SIDES[name]() as side:
            print(row(name, side.drive(options.operations, warm_up=500)), flush=True)
    print("sum: without the span receiver, which stands for the collector")


def row(name: str, result: Result) -> str:
    """One line of the table."""
    used = {column: result.cpu_us(column) for column in COLUMNS}
    total = sum(used.values()) - used[NOT_OURS]
    cells = "".join(f"{used[c]:>14,.0f}" if c in result.cpu_seconds else f"{'-':>14}" for c in COLUMNS)
    return f"{name:<22}{cells}{total:>8,.0f}{result.rate:>9,.0f}"


if __name__ == "__main__":
    main()
