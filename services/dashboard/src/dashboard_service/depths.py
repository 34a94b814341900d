"""How deep each queue has been over the last minutes, for a small line beside its name."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from dashboard_service.samples import Sample

KEPT_SECONDS = 300
# The line's own units: one a second, and this height.
HEIGHT = 24


@dataclass(frozen=True, slots=True)
class Line:
    """The points of an SVG path, KEPT_SECONDS wide and HEIGHT high, and the depth that its top stands for."""

    path: str
    top: int


class Depths:
    """Written by the sampler; a queue that is no longer sampled is forgotten with its last point."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque()
        self._lock = threading.Lock()

    def add(self, sample: Sample) -> None:
        depths = {queue.name: int(queue.depth) for queues in sample.queues.values() for queue in queues}
        with self._lock:
            self._samples.append((sample.monotonic, depths))
            while self._samples[0][0] < sample.monotonic - KEPT_SECONDS:
                self._samples.popleft()

    def line(self, queue: str) -> Line | None:
        """None before there are two points."""
        with self._lock:
            points = [(at, depths[queue]) for at, depths in self._samples if queue in depths]
        return draw(points)


def draw(points: Sequence[tuple[float, int]]) -> Line | None:
    """Points of (seconds, depth), oldest first, as a line that ends at the right."""
    if len(points) < 2:  # noqa: PLR2004 (a line has two ends)
        return None
    now, top = points[-1][0], max(1, *(depth for _, depth in points))
    drawn = [(KEPT_SECONDS - (now - at), HEIGHT * (1 - depth / top)) for at, depth in points]
    return Line("M" + "L".join(f"{x:.0f} {y:.1f}" for x, y in drawn), top)
