"""What passed in the last minutes, counted from the events as they arrive. Any thread may count and read.

Limit: it begins when the process does and knows only what was published since.
"""

import math
import threading
from collections import Counter, deque
from collections.abc import Mapping
from datetime import timedelta

KEPT_SECONDS = 300
_MAX_DURATIONS = 2_000

ACCEPTED, SUCCEEDED, FAILED, RETRIED, OTHER_END = "accepted", "succeeded", "failed", "retried", "ended"
# Past verbs of `waybill.<service>.operation.<past verb>` that count, and as what.
COUNTED: Mapping[str, str] = {
    "accepted": ACCEPTED,
    "succeeded": SUCCEEDED,
    "failed": FAILED,
    "retried": RETRIED,
    "lost": RETRIED,
    "cancelled": OTHER_END,
    "expired": OTHER_END,
}
_ENDS = frozenset({SUCCEEDED, FAILED, OTHER_END})


class Pulse:
    """Counts per second, and how long the last operations took from acceptance to their final state."""

    def __init__(self) -> None:
        self._seconds: dict[int, Counter[str]] = {}
        self._took: deque[float] = deque(maxlen=_MAX_DURATIONS)
        self._lock = threading.Lock()

    def count(self, verb: str, at: float, created: float) -> None:
        """One event; both times are Unix seconds."""
        what = COUNTED.get(verb)
        if what is None:
            return
        with self._lock:
            self._seconds.setdefault(int(at), Counter())[what] += 1
            if what in _ENDS and created:
                self._took.append(max(0.0, at - created))
            for second in [each for each in self._seconds if each < int(at) - KEPT_SECONDS]:
                del self._seconds[second]

    def total(self, what: str, now: float, seconds: int = KEPT_SECONDS) -> int:
        """How many in the last `seconds`."""
        with self._lock:
            return sum(counts[what] for second, counts in self._seconds.items() if second > int(now) - seconds)

    def series(self, now: float, seconds: int) -> list[list[int]]:
        """Oldest first, one row a second: accepted, succeeded, failed or ended otherwise, retried."""
        with self._lock:
            known = {second: counts.copy() for second, counts in self._seconds.items()}
        none: Counter[str] = Counter()
        window = (known.get(second, none) for second in range(int(now) - seconds + 1, int(now) + 1))
        return [[each[ACCEPTED], each[SUCCEEDED], each[FAILED] + each[OTHER_END], each[RETRIED]] for each in window]

    def quantile(self, share: float) -> timedelta | None:
        """Nearest-rank quantile of the time to the final state; None before the first one."""
        with self._lock:
            took = sorted(self._took)
        if not took:
            return None
        return timedelta(seconds=took[max(0, math.ceil(share * len(took)) - 1)])
