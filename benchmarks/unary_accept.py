"""Unary accept through a real gateway against a bare grpc.aio echo of the same messages."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from chassis.embedded import EmbeddedValkey
from processes import free_port, running, until
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

CALLS = 1_500
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


def _answers(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(0.5)
        except grpc.FutureTimeoutError:
            return False
        return True


@contextlib.contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """Addresses of a metrics gateway and of the echo."""
    gateway, echo, spans = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder) / "valkey") as valkey:
        environment = {
            "WAYBILL_REDIS_URL": valkey.url,
            "WAYBILL_STATE_DIR": folder,
            "METRICS_LISTEN": f"127.0.0.1:{gateway}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{spans}",
        }
        with (
            running("span_receiver.py", str(spans)),
            running("-m", "metrics_service", "gateway", **environment),
            running("echo_server.py", str(echo)),
        ):
            for port in (gateway, echo):
                until(lambda port=port: _answers(f"127.0.0.1:{port}"), f"port {port} to answer", every=0.1)
            yield f"127.0.0.1:{gateway}", f"127.0.0.1:{echo}"


def rounds(count: int) -> list[tuple[float, float]]:
    """Accepts and echoes per second, in interleaved rounds."""
    with servers() as (gateway, echo):
        for address in (gateway, echo):
            asyncio.run(_rate(address, 200))
        return [(asyncio.run(_rate(gateway, CALLS)), asyncio.run(_rate(echo, CALLS))) for _ in range(count)]
