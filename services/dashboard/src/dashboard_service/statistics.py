"""What OperationService/GetOperationStats of several services says, as lines over time and a table of tasks. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from waybill.admin.v1 import admin_pb2

from dashboard_service.operation_rows import state_name

#: Name to how long it reaches back, and its step.
RANGES: Final = {
    "1h": (timedelta(hours=1), timedelta(minutes=1)),
    "24h": (timedelta(hours=24), timedelta(minutes=10)),
    "7d": (timedelta(days=7), timedelta(hours=1)),
}


@dataclass(slots=True)
class Sum:
    """Operations that ended, however many rows they come from."""

    succeeded: int = 0
    failed: int = 0
    ended: int = 0
    attempts: int = 0
    # Of those that succeeded or failed.
    seconds: float = 0.0
    # The greatest p95 among the rows: of one row it is exact, of several that of the slowest.
    p95: float | None = None

    @property
    def count(self) -> int:
        return self.succeeded + self.failed + self.ended

    @property
    def rate(self) -> float | None:
        """Failures among those that succeeded or failed; None where there are none."""
        ran = self.succeeded + self.failed
        return self.failed / ran if ran else None

    @property
    def mean(self) -> float | None:
        """Seconds from acceptance to the end; exact, whatever was added up."""
        ran = self.succeeded + self.failed
        return self.seconds / ran if ran else None

    def add(self, row: admin_pb2.OperationStats) -> None:
        state, count = state_name(row.state), int(row.count)
        self.attempts += int(row.attempts)
        if state not in {"SUCCEEDED", "FAILED"}:
            self.ended += count
            return
        self.succeeded += count if state == "SUCCEEDED" else 0
        self.failed += count if state == "FAILED" else 0
        self.seconds += count * row.total.mean.ToTimedelta().total_seconds()
        self.p95 = max(self.p95 or 0.0, row.total.p95.ToTimedelta().total_seconds())


@dataclass(frozen=True, slots=True)
class Statistics:
    """One sum for each step, oldest first, and one for each task, the most frequent first."""

    times: Sequence[int]
    steps: Sequence[Sum]
    tasks: Sequence[tuple[str, Sum]]
    total: Sum = field(default_factory=Sum)

    def as_json(self) -> dict[str, Any]:
        """Columns for the charts; null where nothing ran."""
        names = ("succeeded", "failed", "ended", "rate", "mean", "p95")
        return {"times": list(self.times), **{name: [getattr(each, name) for each in self.steps] for name in names}}


def build(rows: Iterable[admin_pb2.OperationStats], start: int, end: int, step: int) -> Statistics:
    """`start` and `end` in Unix seconds, `step` in seconds; steps in which nothing ended are there, too."""
    times = range(start // step * step, end, step)
    by_time: dict[int, Sum] = {time: Sum() for time in times}
    by_task: dict[str, Sum] = defaultdict(Sum)
    total = Sum()
    for row in rows:
        time = row.start_time.seconds // step * step
        if time in by_time:
            by_time[time].add(row)
            by_task[row.task].add(row)
            total.add(row)
    tasks = sorted(by_task.items(), key=lambda item: (-item[1].count, item[0]))
    return Statistics(times, list(by_time.values()), tasks, total)
