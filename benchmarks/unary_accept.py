"""Unary accept through a real gateway against a bare grpc.aio echo of the same messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import gateways
import grpc
from figures import Row, ratio
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

CALLS = 3_000
WARM_UP = 300
IN_FLIGHT = 32


async def _rate(address: str, calls: int) -> float:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        request = metrics_pb2.IngestSamplesRequest(
            samples=[metrics_pb2.Sample(metric="bench.load", labels={"host": "a"}, value=1.0)]
        )
        request.samples[0].time.GetCurrentTime()
        left = iter(range(calls))

        async def client() -> None:
            for _ in left:
                await stub.IngestSamples(request, timeout=30)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        return calls / (time.perf_counter() - began)


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """Accepts and echoes per second, in interleaved rounds of the same client."""
    count, operations = plan
    with gateways.gateway("metrics") as ours, gateways.echo() as bare:
        for address in (ours, bare):
            asyncio.run(_rate(address, WARM_UP))
        pairs = [
            tuple(asyncio.run(_rate(address, operations or CALLS)) for address in (ours, bare)) for _ in range(count)
        ]
    yield ratio("unary accept / bare grpc.aio echo, 32 in flight", pairs, least=0.5, of="calls/s")
