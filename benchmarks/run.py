"""`make bench`: every benchmark as a ratio against its baseline in the same run, medians of interleaved rounds."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import end_to_end
import unary_accept

PREFORK_SLOTS = 2
THREAD_SLOTS = 8


def _row(name: str, rates: list[tuple[float, float]], least: float) -> bool:
    ratios = [ours / baseline for ours, baseline in rates]
    ratio = statistics.median(ratios)
    ours, baseline = (statistics.median(side) for side in zip(*rates, strict=True))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"{name:<52} {ratio:6.2f}x  ({spread})  at least {least:.1f}x  [{ours:,.0f}/s against {baseline:,.0f}/s]")
    return ratio >= least


def main() -> int:
    """Print the table; exit 1 when a ratio is below what it should at least be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds per benchmark (default 5)")
    parser.add_argument("--operations", type=int, default=3_000, help="operations per round (default 3000)")
    options = parser.parse_args()
    print(f"medians of {options.rounds} interleaved rounds; the span between worst and best in brackets")
    reached = [_row("unary accept / bare grpc.aio echo", unary_accept.rounds(options.rounds), 0.4)]
    for pool, slots in (("threads", THREAD_SLOTS), ("solo", 1), ("prefork", PREFORK_SLOTS)):
        rates = end_to_end.rounds(pool, slots, options.rounds, options.operations)
        reached.append(_row(f"end to end / stock Celery with results, {pool} {slots}", rates, 1.0))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
