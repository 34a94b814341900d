"""What only the store knows, for Prometheus: queues, dead letters, workers. Asked of it when a gateway is scraped.

Every gateway of a service says the same, so queries take the maximum over gateways, not the sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from chassis.admin_rpc import living_workers
from chassis.queue_facts import QueueFacts, queue_facts
from chassis.store import AsyncStore
from chassis.telemetry import now_us

if TYPE_CHECKING:
    from chassis.intake import Intake
    from chassis.settings import WaybillSettings
    from chassis.worker import ServiceApp

SCRAPE_SECONDS: Final = 5.0
PRIORITIES: Final = ("low", "normal", "high")


def _age_of(queue: QueueFacts) -> float:
    return max(0.0, (now_us() - queue.oldest_us) / 1e6) if queue.depth else 0.0


_QUEUE_FACTS: Final[tuple[tuple[str, str, Callable[[QueueFacts], float]], ...]] = (
    ("oldest_age_seconds", "Age of the oldest due operation; 0 where none is due.", _age_of),
    ("waiting", "Operations that are not due yet.", lambda queue: queue.waiting),
    ("in_flight", "Operations that are leased to workers.", lambda queue: queue.in_flight),
    ("paused", "1 while workers take nothing from it.", lambda queue: queue.paused),
    ("accept_rate", "Operations accepted a second, over the last minute.", lambda queue: queue.accept_rate),
    ("settle_rate", "Operations ended a second, over the last minute.", lambda queue: queue.settle_rate),
)


def store_source(app: ServiceApp, waybill: WaybillSettings) -> Callable[[], Iterable[Metric]]:
    """A source of the service's facts, each time over a connection of its own: scrapes come on another thread."""

    def facts_of_the_store() -> Iterator[Metric]:
        try:
            queues, dead, workers = asyncio.run(_ask(app, waybill))
        except (RedisError, TimeoutError):
            yield gauge("waybill_store_up", "1 while the operation store answers.", 0)
            return
        yield gauge("waybill_store_up", "1 while the operation store answers.", 1)
        yield gauge("waybill_dead_letters", "Dead letters in the operation store.", dead)
        yield gauge("waybill_workers", "Workers that were heard of.", workers)
        yield from _of_queues(queues)

    return facts_of_the_store


async def _ask(app: ServiceApp, waybill: WaybillSettings) -> tuple[dict[str, QueueFacts], int, int]:
    async with asyncio.timeout(SCRAPE_SECONDS), _connected(app.service, waybill.store_url) as store:
        queues = await queue_facts(store, [queue.name for queue in app.queues])
        dead = await store.client.zcard(store.keys.named("dead"))
        return queues, int(dead), len(await living_workers(store))


@asynccontextmanager
async def _connected(service: str, redis_url: str) -> AsyncIterator[AsyncStore]:
    store = AsyncStore.connect(service, redis_url)
    try:
        yield store
    finally:
        await store.close()


def _of_queues(queues: Mapping[str, QueueFacts]) -> Iterator[Metric]:
    depth = GaugeMetricFamily("waybill_queue_depth", "Operations that are due.", labels=["queue", "priority"])
    for name, facts in queues.items():
        for priority, count in zip(PRIORITIES, facts.depths, strict=True):
            depth.add_metric([name, priority], count)
    yield depth
    for suffix, about, fact in _QUEUE_FACTS:
        family = GaugeMetricFamily(f"waybill_queue_{suffix}", about, labels=["queue"])
        for name, facts in queues.items():
            family.add_metric([name], float(fact(facts)))
        yield family


def worker_source(intake: Intake, facts: Callable[[], Mapping[str, int]]) -> Callable[[], Iterable[Metric]]:
    """A source of what a worker says of itself; `facts` are those of its heartbeat."""

    def facts_of_the_worker() -> Iterator[Metric]:
        told = facts()
        yield gauge("waybill_worker_slots", "Attempts that it is meant to run at a time.", told["concurrency"])
        yield gauge("waybill_worker_running", "Attempts that run.", len(intake.running()))
        yield gauge("waybill_worker_held", "Operations that it fetched and has not settled.", intake.held)
        yield gauge("waybill_worker_draining", "1 while it takes nothing more.", intake.draining)
        yield gauge("waybill_worker_abandoned", "Slots lost to attempts that heed nothing.", intake.abandoned)
        yield gauge("waybill_worker_memory_bytes", "Resident memory, children included.", told["memory_bytes"])

    return facts_of_the_worker


def gauge(name: str, about: str, value: float) -> Metric:
    """A gauge without labels."""
    family = GaugeMetricFamily(name, about)
    family.add_metric([], float(value))
    return family
