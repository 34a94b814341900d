"""KEDA's external scaler: how many workers there should be, in the terms of Kubernetes' autoscaler.

Each metric is one term of `sizing.needed`. KEDA hands them to a HorizontalPodAutoscaler, which divides each by its
target, takes the largest, and does itself what `sizing.decide` does elsewhere: bounds, pauses, a window.

| metric | value | target |
|---|---|---|
| `operations` | due or in flight; of a paused queue only what is in flight | `target`, 20 |
| `oldest_age` | `targetAge` for each worker that the age of the oldest asks for | `targetAge`, 30 s |
| `running` | workers that what runs keeps busy, so that a scale-down takes none of them | 1 |

Scaler metadata: `queue` (empty: all of the service), `target` (operations per worker), `targetAge` (seconds; 0: age
plays no part).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from externalscaler import externalscaler_pb2 as scaler
from externalscaler import externalscaler_pb2_grpc
from grpc import aio
from waybill.admin.v1 import admin_pb2

from chassis import sizing
from chassis.admin_rpc import living_workers
from chassis.errors import FieldViolation, InvalidArgument, Violations
from chassis.queue_facts import QueueFacts, queue_facts
from chassis.sizing import Load, Policy
from chassis.store import AsyncStore
from chassis.telemetry import now_us

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

STREAM_SECONDS: Final = 2.0
OPERATIONS: Final = "operations"
OLDEST_AGE: Final = "oldest_age"
RUNNING: Final = "running"


def load_of(facts: Iterable[QueueFacts], now: int) -> Load:
    """What there is to do. What waits in a paused queue does not count: no worker could take it."""
    queues = tuple(facts)
    open_ones = [queue for queue in queues if not queue.paused and queue.depth]
    oldest = min((queue.oldest_us for queue in open_ones), default=now)
    return Load(
        depth=sum(queue.depth for queue in open_ones),
        in_flight=sum(queue.in_flight for queue in queues),
        oldest_age=timedelta(microseconds=max(0, now - oldest)),
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """What a decision is made from."""

    load: Load
    workers: int
    policy: Policy

    def metrics(self) -> dict[str, tuple[float, float]]:
        """Value and target of each metric: the quotient, rounded up, is the workers that its term asks for."""
        age = self.policy.target_age.total_seconds()
        by_age = sizing.needed_for_age(self.load, self.workers, self.policy)
        by_running = sizing.needed_for_running(self.load, self.workers, self.policy)
        found = {
            OPERATIONS: (float(self.load.operations), float(self.policy.target)),
            RUNNING: (float(by_running), 1.0),
        }
        return found | ({OLDEST_AGE: (by_age * age, age)} if age else {})


class ScalerServicer(externalscaler_pb2_grpc.ExternalScalerServicer):
    """What KEDA asks."""

    def __init__(self, app: ServiceApp, store: AsyncStore) -> None:
        self._names = [queue.name for queue in app.queues]
        self._slots = app.concurrency
        self._store = store

    async def IsActive(
        self, request: scaler.ScaledObjectRef, context: aio.ServicerContext[Any, Any]
    ) -> scaler.IsActiveResponse:
        return scaler.IsActiveResponse(result=await self._is_active(request))

    async def StreamIsActive(
        self, request: scaler.ScaledObjectRef, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[scaler.IsActiveResponse]:
        """What it is, then each change."""
        told: bool | None = None
        while True:
            active = await self._is_active(request)
            if active is not told:
                yield scaler.IsActiveResponse(result=active)
                told = active
            await asyncio.sleep(STREAM_SECONDS)

    async def GetMetricSpec(
        self, request: scaler.ScaledObjectRef, context: aio.ServicerContext[Any, Any]
    ) -> scaler.GetMetricSpecResponse:
        metrics = (await self._scene(request)).metrics()
        return scaler.GetMetricSpecResponse(
            metricSpecs=[
                scaler.MetricSpec(metricName=name, targetSize=int(target), targetSizeFloat=target)
                for name, (_, target) in metrics.items()
            ]
        )

    async def GetMetrics(
        self, request: scaler.GetMetricsRequest, context: aio.ServicerContext[Any, Any]
    ) -> scaler.GetMetricsResponse:
        """The metric that is named; all of them where none is. KEDA takes whatever comes for the one that it named."""
        metrics = (await self._scene(request.scaledObjectRef)).metrics()
        if request.metricName and request.metricName not in metrics:
            raise InvalidArgument([FieldViolation("metricName", f"must be one of {', '.join(metrics)}")])
        return scaler.GetMetricsResponse(
            metricValues=[
                scaler.MetricValue(metricName=name, metricValue=round(value), metricValueFloat=value)
                for name, (value, _) in metrics.items()
                if name == request.metricName or not request.metricName
            ]
        )

    async def _is_active(self, request: scaler.ScaledObjectRef) -> bool:
        return (await self._scene(request)).load.operations > 0

    async def _scene(self, request: scaler.ScaledObjectRef) -> Scene:
        queues = self._queues(request.scalerMetadata)
        policy = policy_of(request.scalerMetadata)
        facts = await queue_facts(self._store, queues)
        workers = [each for each in await living_workers(self._store) if takes_from(each, queues)]
        slots = max(1, round(sum(each.concurrency for each in workers) / len(workers))) if workers else self._slots
        return Scene(
            load_of(facts.values(), now_us()),
            len(workers),
            Policy(slots=slots, target=policy.target, target_age=policy.target_age),
        )

    def _queues(self, metadata: Mapping[str, str]) -> list[str]:
        queue = metadata.get("queue", "")
        if queue and queue not in self._names:
            raise InvalidArgument([FieldViolation("scalerMetadata.queue", f"{queue!r} is not a queue of this service")])
        return [queue] if queue else self._names


def takes_from(worker: admin_pb2.Worker, queues: Iterable[str]) -> bool:
    """Whether the worker takes work of one of the queues, and goes on to."""
    return not worker.draining and not set(worker.queues).isdisjoint(queues)


def policy_of(metadata: Mapping[str, str]) -> Policy:
    """Raises InvalidArgument unless `target` is a positive whole number and `targetAge` a number of seconds."""
    violations = Violations()
    target = _whole(metadata.get("target", str(sizing.DEFAULT_TARGET)))
    age = _whole(metadata.get("targetAge", str(sizing.DEFAULT_TARGET_AGE // timedelta(seconds=1))))
    if not target:
        violations.add("scalerMetadata.target", f"must be a positive whole number, is {metadata.get('target')!r}")
    if age is None:
        violations.add("scalerMetadata.targetAge", f"must be whole seconds from 0, is {metadata.get('targetAge')!r}")
    violations.raise_if_any()
    return Policy(target=target or 1, target_age=timedelta(seconds=age or 0))


def _whole(text: str) -> int | None:
    few_digits = 9
    return int(text) if text.isascii() and text.isdigit() and len(text) <= few_digits else None
