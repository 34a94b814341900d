"""What is true of a service's queues now, in one round trip: what operators, scalers and Prometheus ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.store import AsyncStore
from chassis.store_calls import Call

#: Of the bucket size that `count` in prelude.lua has.
RATE_BUCKET_SECONDS: Final = 10
RATE_BUCKETS: Final = 6
RATE_SECONDS: Final = RATE_BUCKETS * RATE_BUCKET_SECONDS
#: Members of an index that are looked at: what is beyond is missing from `waiting`, `in_flight` or `parked_operations`.
LOOKED_AT: Final = 10_000


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """One queue's."""

    depth_low: int
    depth_normal: int
    depth_high: int
    #: Unix microseconds since which the oldest is due; 0: none is.
    oldest_us: int
    waiting: int
    in_flight: int
    paused: bool
    #: Within the last RATE_SECONDS.
    accepted: int
    settled: int
    parked_operations: int
    parked_messages: int

    @property
    def depths(self) -> tuple[int, int, int]:
        """By priority, the lowest first."""
        return self.depth_low, self.depth_normal, self.depth_high

    @property
    def depth(self) -> int:
        return sum(self.depths)

    @property
    def accept_rate(self) -> float:
        """Per second."""
        return self.accepted / RATE_SECONDS

    @property
    def settle_rate(self) -> float:
        """Per second."""
        return self.settled / RATE_SECONDS


async def queue_facts(store: AsyncStore, queues: Sequence[str]) -> dict[str, QueueFacts]:
    """Facts of the named queues."""

    def read(answer: list[list[int]]) -> dict[str, QueueFacts]:
        return {queue: _facts(values) for queue, values in zip(queues, answer, strict=True)}

    return await store.run(Call("queue_facts", [LOOKED_AT, RATE_BUCKETS, *queues], read))


def _facts(values: Sequence[int]) -> QueueFacts:
    low, normal, high, oldest, waiting, in_flight, paused, accepted, settled, operations, messages = map(int, values)
    return QueueFacts(
        depth_low=low,
        depth_normal=normal,
        depth_high=high,
        oldest_us=oldest,
        waiting=waiting,
        in_flight=in_flight,
        paused=bool(paused),
        accepted=accepted,
        settled=settled,
        parked_operations=operations,
        parked_messages=messages,
    )
