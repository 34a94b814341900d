"""What one operation costs in CPU time: `python benchmarks/costs.py [SIDE...]`.

From the processes' own CPU times over one run each, until the last span is exported: they say something on a busy
machine too, where rates do not. What a process does while idle is counted as well, so a low rate raises all figures.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parent))

import cycles
import sides
from chassis.store import Store
from chassis.store_calls import Call
from sides import Result, Side

R = TypeVar("R")
Start = Callable[[], contextlib.AbstractContextManager[Side]]

SIDES: dict[str, Start] = {
    "waybill-threads": lambda: sides.waybill("threads", 8),
    "waybill-solo": lambda: sides.waybill("solo", 1),
    "waybill-prefork": lambda: sides.waybill("prefork", 2),
    "waybill-two-threads": lambda: sides.waybill("threads", 8, workers=2),
    "waybill-silent": lambda: sides.waybill("threads", 8, telemetry=False),
    "waybill-events": lambda: sides.waybill("threads", 8, events=True),
    "stock-threads": lambda: sides.stock("threads", 8),
    "stock-solo": lambda: sides.stock("solo", 1),
    "stock-prefork": lambda: sides.stock("prefork", 2),
    "dramatiq": sides.dramatiq,
    "taskiq": sides.taskiq,
}
COLUMNS = ("driver", "server", "worker", "gateway", sides.SPAN_RECEIVER)
SCRIPTS = "scripts"
CYCLES = 200


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*SIDES, SCRIPTS]
    parser.add_argument("sides", nargs="*", metavar="SIDE", help=f"some of {', '.join(known)}; default: all")
    parser.add_argument("--operations", type=int, default=5_000, help="operations of each run (default 5000)")
    options = parser.parse_args()
    if unknown := set(options.sides) - set(known):
        parser.error(f"unknown: {', '.join(unknown)}")
    wanted = options.sides or known
    if chosen := [name for name in wanted if name in SIDES]:
        print(f"{'CPU µs per operation':<22}" + "".join(f"{name:>14}" for name in COLUMNS) + f"{'sum':>8}{'rate/s':>9}")
        for name in chosen:
            with SIDES[name]() as side:
                print(row(name, side.drive(options.operations, warm_up=500)), flush=True)
        print("sum: without the span receiver, which stands for a collector")
    if SCRIPTS in wanted:
        print(f"server µs per operation, {cycles.SIZE} at a time: {by_script()}")


def row(name: str, result: Result) -> str:
    """One line of the table."""
    cells = (f"{result.cpu_us(column):,.0f}" if column in result.cpu_seconds else "-" for column in COLUMNS)
    columns = "".join(f"{cell:>14}" for cell in cells)
    return f"{name:<22}{columns}{result.cpu_us_of_all:>8,.0f}{result.rate:>9,.0f}"


def by_script() -> str:
    """Time inside each script, by the server's own count; without parsing, answering and the append-only file."""
    spent: dict[str, int] = {}
    with sides.valkey() as server:
        store = Store.connect("noop", server.url)
        cycles.fill(store, 1_000)

        def run(call: Call[R]) -> R:
            before = _scripts_and_commands(store)[0]
            answer = store.run(call)
            spent[call.script] = spent.get(call.script, 0) + _scripts_and_commands(store)[0] - before
            return answer

        for number in range(CYCLES):
            cycles.cycle(run, f"by-script.{number}")
        before = _scripts_and_commands(store)
        for number in range(CYCLES):
            cycles.cycle(store.run, f"all.{number}")
        scripts, calls, commands = (
            (after - first) / CYCLES / cycles.SIZE
            for first, after in zip(before, _scripts_and_commands(store), strict=True)
        )
    each = ", ".join(f"{name} {used / CYCLES / cycles.SIZE:,.0f}" for name, used in spent.items())
    return f"{each}; together {scripts:,.0f}, of which {commands:,.0f} in {calls:,.0f} commands"


def _scripts_and_commands(store: Store) -> tuple[int, int, int]:
    """Microseconds in scripts; calls and microseconds of the commands that they run."""
    statistics = dict(store.client.info("commandstats"))
    scripts = int(statistics.pop("cmdstat_evalsha")["usec"])
    for outside in ("cmdstat_info", "cmdstat_config|set", "cmdstat_eval", "cmdstat_hello"):
        statistics.pop(outside, None)
    inside = statistics.values()
    return scripts, sum(int(each["calls"]) for each in inside), sum(int(each["usec"]) for each in inside)


if __name__ == "__main__":
    main()
