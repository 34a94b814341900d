"""KEDA's external scaler: how much work waits and runs, for whoever adds and removes workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from externalscaler import externalscaler_pb2 as scaler
from externalscaler import externalscaler_pb2_grpc
from grpc import aio

from chassis.admin_rpc import QueueFacts, queue_facts
from chassis.errors import FieldViolation, InvalidArgument
from chassis.store import AsyncStore

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

METRIC: Final = "operations"
#: Operations, waiting and running, that one worker is meant for.
DEFAULT_TARGET: Final = 20
STREAM_SECONDS: Final = 2.0


def load_of(facts: Mapping[str, QueueFacts]) -> int:
    """Operations that are due or in flight. What waits in a paused queue does not count: no worker could take it."""
    return sum((0 if queue.paused else queue.depth) + queue.in_flight for queue in facts.values())


class ScalerServicer(externalscaler_pb2_grpc.ExternalScalerServicer):
    """Scaler metadata: `queue` (empty: all of the service), `target` operations per worker."""

    def __init__(self, app: ServiceApp, store: AsyncStore) -> None:
        self._names = [queue.name for queue in app.queues]
        self._store = store

    async def IsActive(
        self, request: scaler.ScaledObjectRef, context: aio.ServicerContext[Any, Any]
    ) -> scaler.IsActiveResponse:
        return scaler.IsActiveResponse(result=await self._load(request) > 0)

    async def StreamIsActive(
        self, request: scaler.ScaledObjectRef, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[scaler.IsActiveResponse]:
        told: bool | None = None
        while True:
            active = await self._load(request) > 0
            if active is not told:
                yield scaler.IsActiveResponse(result=active)
                told = active
            await asyncio.sleep(STREAM_SECONDS)

    async def GetMetricSpec(
        self, request: scaler.ScaledObjectRef, context: aio.ServicerContext[Any, Any]
    ) -> scaler.GetMetricSpecResponse:
        target = target_of(request)
        return scaler.GetMetricSpecResponse(
            metricSpecs=[scaler.MetricSpec(metricName=METRIC, targetSize=target, targetSizeFloat=target)]
        )

    async def GetMetrics(
        self, request: scaler.GetMetricsRequest, context: aio.ServicerContext[Any, Any]
    ) -> scaler.GetMetricsResponse:
        load = await self._load(request.scaledObjectRef)
        return scaler.GetMetricsResponse(
            metricValues=[scaler.MetricValue(metricName=METRIC, metricValue=load, metricValueFloat=load)]
        )

    async def _load(self, request: scaler.ScaledObjectRef) -> int:
        queue = request.scalerMetadata.get("queue", "")
        if queue and queue not in self._names:
            raise InvalidArgument([FieldViolation("scalerMetadata.queue", f"{queue!r} is not a queue of this service")])
        return load_of(await queue_facts(self._store, [queue] if queue else self._names))


def target_of(request: scaler.ScaledObjectRef) -> int:
    """Raises InvalidArgument unless `target` is a positive whole number."""
    text = request.scalerMetadata.get("target", str(DEFAULT_TARGET))
    if not text.isdigit() or int(text) < 1:
        raise InvalidArgument(
            [FieldViolation("scalerMetadata.target", f"must be a positive whole number, is {text!r}")]
        )
    return int(text)
