"""What a process counts. Each instrument is written by one thread, so that counting takes no lock; anybody may read.

An instrument keeps at most `MOST_SERIES` sets of labels; whatever would be more is counted under `other`, since labels
may come from clients.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

MOST_SERIES: Final = 1_000
#: Upper bounds in seconds: from a short attempt to one of ten minutes.
SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    600.0,
)

Labels = tuple[str, ...]


@dataclass(slots=True)
class Counts:
    """How often, by labels."""

    name: str
    about: str
    labels: Labels
    values: dict[Labels, int] = field(default_factory=dict)

    def add(self, *labels: str) -> None:
        known = labels if labels in self.values or len(self.values) < MOST_SERIES else _other(labels)
        self.values[known] = self.values.get(known, 0) + 1


@dataclass(slots=True)
class Durations:
    """How long, by labels: how many were at most as long as each bound of `SECONDS`, or longer, and their sum."""

    name: str
    about: str
    labels: Labels
    values: dict[Labels, list[float]] = field(default_factory=dict)

    def observe(self, seconds: float, *labels: str) -> None:
        cells = self.values.get(labels)
        if cells is None:
            known = labels if len(self.values) < MOST_SERIES else _other(labels)
            cells = self.values.setdefault(known, [0.0] * (len(SECONDS) + 2))
        cells[bisect_left(SECONDS, seconds)] += 1
        cells[-1] += seconds


def _other(labels: Labels) -> Labels:
    return ("other",) * len(labels)


#: By the edge of a gateway.
RPC_DURATION: Final = Durations("waybill_rpc_duration_seconds", "RPCs by how long they took.", ("method", "code"))
#: By whoever accepts: gateways, subscribers, schedulers.
ACCEPTANCES: Final = Counts("waybill_acceptances", "Operations that were to be accepted.", ("task", "queue", "verdict"))
#: By the settler of a worker.
ATTEMPTS: Final = Counts("waybill_attempts", "Attempts that the store has settled.", ("task", "queue", "outcome"))
ATTEMPT_DURATION: Final = Durations("waybill_attempt_duration_seconds", "Attempts by how long they ran.", ("task",))
QUEUE_WAIT: Final = Durations(
    "waybill_queue_wait_seconds", "Attempts by how long they had been due when they were fetched.", ("task", "queue")
)

ALL: Final = (RPC_DURATION, ACCEPTANCES, ATTEMPTS, ATTEMPT_DURATION, QUEUE_WAIT)
