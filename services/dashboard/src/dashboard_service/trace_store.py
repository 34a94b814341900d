"""Recent traces, in memory, between two bounds.

Guarantees: a span counts once by (trace id, span id), the first that arrives; neither bound is ever
exceeded; the trace whose first span arrived longest ago goes first, whole.
Limit: a trace that is larger than the span bound goes too, and what comes later of it starts anew.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Watcher = Callable[[bytes], None]


@dataclass(slots=True)
class TraceStore:
    """Spans as their encoded bytes: a tenth of what the objects would take."""

    max_spans: int
    max_traces: int
    spans: int = 0
    dropped_traces: int = 0
    _traces: dict[str, dict[str, bytes]] = field(default_factory=dict)
    _watchers: dict[str, list[Watcher]] = field(default_factory=dict)

    @property
    def traces(self) -> int:
        """How many traces are kept."""
        return len(self._traces)

    def add(self, trace_id: str, span_id: str, encoded: bytes) -> bool:
        """Keep a span and show it to the trace's watchers; False when it was there before."""
        spans = self._traces.setdefault(trace_id, {})
        if span_id in spans:
            return False
        spans[span_id] = encoded
        self.spans += 1
        self._drop_oldest()
        for watcher in tuple(self._watchers.get(trace_id, ())):
            watcher(encoded)
        return True

    def get(self, trace_id: str) -> Iterable[bytes]:
        """The trace's spans in the order of their arrival; none when it is unknown or dropped."""
        return tuple(self._traces.get(trace_id, {}).values())

    def watch(self, trace_id: str, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with each further span of the trace, until the function returned here is called."""
        watchers = self._watchers.setdefault(trace_id, [])
        watchers.append(watcher)

        def stop() -> None:
            watchers.remove(watcher)
            if not watchers and self._watchers.get(trace_id) is watchers:
                del self._watchers[trace_id]

        return stop

    def _drop_oldest(self) -> None:
        while self.spans > self.max_spans or len(self._traces) > self.max_traces:
            oldest = next(iter(self._traces))
            self.spans -= len(self._traces.pop(oldest))
            self.dropped_traces += 1
