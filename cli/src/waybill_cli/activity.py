"""What has happened in the last minute, counted from the changes of operations as they come. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from waybill_client import Change

#: Seconds that are kept.
WINDOW = 60
#: Rates are means over so many whole seconds.
RATE_SECONDS = 5
LATEST = 40
_COUNTED = frozenset({"accepted", "began", "retried", "lost", "succeeded", "failed", "cancelled", "expired"})
_ENDS = ("succeeded", "failed", "cancelled", "expired")


class Activity:
    """Counts by kind and second of arrival. Instants are seconds of one clock, any clock."""

    def __init__(self, begin: float) -> None:
        self.latest: deque[Change] = deque(maxlen=LATEST)
        self._begin = begin
        self._seconds: dict[int, Counter[str]] = {}

    def note(self, change: Change, now: float) -> None:
        """Progress is shown and not counted."""
        self.latest.append(change)
        if change.kind in _COUNTED:
            self._seconds.setdefault(int(now), Counter())[change.kind] += 1
            for second in [second for second in self._seconds if second <= now - WINDOW - 1]:
                del self._seconds[second]

    def last_minute(self, now: float) -> Counter[str]:
        """How many of each kind."""
        total: Counter[str] = Counter()
        for second, counted in self._seconds.items():
            if now - WINDOW <= second <= now:
                total.update(counted)
        return total

    def rate(self, now: float, *kinds: str) -> float:
        """Per second over the last whole seconds, as far as there were any."""
        whole = min(RATE_SECONDS, int(now) - int(self._begin))
        if whole <= 0:
            return 0.0
        return sum(self._at(int(now) - ago, kinds) for ago in range(1, whole + 1)) / whole

    def ended(self, now: float) -> float:
        """Operations that reached a final state, per second."""
        return self.rate(now, *_ENDS)

    def curve(self, now: float) -> Sequence[int]:
        """Ended per second, oldest first, of the whole seconds of the window."""
        return [self._at(int(now) - ago, _ENDS) for ago in range(WINDOW, 0, -1)]

    def _at(self, second: int, kinds: Sequence[str]) -> int:
        counted = self._seconds.get(second)
        return sum(counted[kind] for kind in kinds) if counted else 0
