"""`make bench`: every benchmark as a ratio against its baseline in the same run, medians of interleaved rounds."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import archive
import batch_accept
import dashboard
import depth
import end_to_end
import latency
import memory
import unary_accept
from figures import Row

#: Rounds, and operations of a round (None: what the benchmark takes to be enough), to rows.
Benchmark = Callable[[tuple[int, int | None]], Iterator[Row]]

BENCHMARKS: dict[str, Benchmark] = {
    "threads": end_to_end.against_stock("threads", 8, least=6),
    "solo": end_to_end.against_stock("solo", 1, least=6),
    "prefork": end_to_end.against_stock("prefork", 2, least=3),
    "dramatiq": end_to_end.against_dramatiq,
    "taskiq": end_to_end.against_taskiq,
    "rq": end_to_end.against_rq,
    "unary": unary_accept.rows,
    "batch": batch_accept.rows,
    "telemetry": end_to_end.telemetry,
    "events": end_to_end.celery_events,
    "depth": depth.rows,
    "memory": memory.rows,
    "latency": latency.rows,
    "archive": archive.rows,
    "dashboard": dashboard.rows,
}


def main() -> int:
    """Print the table; exit 1 when a figure is beyond its bound."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"medians of {options.rounds} interleaved rounds; the span between the outermost rounds in brackets")
    rows = []
    try:
        for name in options.only or BENCHMARKS:
            for row in BENCHMARKS[name]((options.rounds, options.operations)):
                print(row, flush=True)
                rows.append(row)
                if options.json:
                    _write(Path(options.json), options.rounds, rows)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0 if all(row.reached for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds per benchmark (default 5)")
    parser.add_argument("--operations", type=int, help="operations per round (default: what takes about four seconds)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def _write(path: Path, rounds: int, rows: list[Row]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    facts = {
        "commit": commit.stdout.strip(),
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "rounds": rounds,
        "rows": [row.facts() for row in rows],
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
