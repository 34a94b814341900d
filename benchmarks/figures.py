"""What a benchmark yields: a figure for each round, what it should at least or at most be, and how it is printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; its figure is the median of its rounds."""

    what: str
    rounds: Sequence[float]
    unit: str = "x"
    least: float | None = None
    most: float | None = None
    #: Absolute figures, for orientation.
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def reached(self) -> bool:
        return (self.least is None or self.median >= self.least) and (self.most is None or self.median <= self.most)

    @property
    def bound(self) -> str:
        """The bound in words; empty where the row is for orientation."""
        if self.least is not None:
            return f"at least {self.least:g}{self.unit}"
        return "" if self.most is None else f"at most {self.most:g}{self.unit}"

    def __str__(self) -> str:
        spread = f"({min(self.rounds):.2f} to {max(self.rounds):.2f})" if len(self.rounds) > 1 else ""
        missed = "" if self.reached else "  MISSED"
        figure = f"{self.median:.2f}{self.unit}"
        return f"{self.what:<58}{figure:>10}  {spread:<18}{self.bound:<17} {self.note}{missed}"

    def facts(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "median": self.median, "reached": self.reached}


def ratio(
    what: str, pairs: Sequence[tuple[float, float]], *, least: float | None = None, of: str = "operations/s"
) -> Row:
    """Ours through the baseline's, round by round, of rates."""
    ours, baseline = (statistics.median(side) for side in zip(*pairs, strict=True))
    note = f"{ours:,.0f} against {baseline:,.0f} {of}"
    return Row(what, [mine / theirs for mine, theirs in pairs], least=least, note=note)


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
