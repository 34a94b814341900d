"""Accept to SUCCEEDED against stock Celery: the same no-op, the same pool, results kept, late acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from chassis.embedded import EmbeddedValkey
from google.protobuf.wrappers_pb2 import StringValue
from processes import HERE, PATIENCE_SECONDS, free_port, running, until

TEXT = "x" * 200
BATCH = 500


@contextlib.contextmanager
def waybill_worker(pool: str, concurrency: int, *, telemetry: bool = True) -> Iterator[redis.Redis]:
    """A gateway (it exports the spans) and a worker of the no-op service."""
    spans = free_port()
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder)) as valkey:
        environment = {
            "WAYBILL_REDIS_URL": valkey.url,
            "BENCH_POOL": pool,
            "BENCH_CONCURRENCY": str(concurrency),
            "NOOP_LISTEN": f"127.0.0.1:{free_port()}",
            "WAYBILL_ROUTES": "noop=127.0.0.1:1",
        }
        if telemetry:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{spans}"
        os.environ["WAYBILL_REDIS_URL"] = valkey.url
        client = redis.Redis.from_url(valkey.url)
        with (
            running("span_receiver.py", str(spans)),
            running("-m", "noop_service", "gateway", **environment),
            running("-m", "noop_service", "worker", **environment),
        ):
            until(lambda: client.hlen("wb:{noop}:workers") > 0, "the worker to be ready")
            yield client


def waybill_rate(client: redis.Redis, count: int) -> float:
    """Operations per second from the first accept to the last SUCCEEDED."""
    from chassis.operations import Operations, Submission  # noqa: PLC0415 (read settings of this round)
    from chassis.store import AsyncStore  # noqa: PLC0415
    from noop_service.tasks import app, do_nothing  # noqa: PLC0415

    finished = "wb:{noop}:finished"
    before = client.zcard(finished)

    async def accept() -> None:
        store = AsyncStore.connect("noop", os.environ["WAYBILL_REDIS_URL"])
        operations = Operations(store, app)
        for _ in range(0, count, BATCH):
            await operations.accept_many([Submission(do_nothing, StringValue(value=TEXT)) for _ in range(BATCH)])
        await store.close()

    began = time.perf_counter()
    asyncio.run(accept())
    until(lambda: client.zcard(finished) - before >= count, "every operation to succeed", every=0.01)
    return count / (time.perf_counter() - began)


@contextlib.contextmanager
def stock_worker(pool: str, concurrency: int) -> Iterator[str]:
    """A worker of the stock app."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder)) as valkey:
        client = redis.Redis.from_url(valkey.url)
        arguments = ["-m", "celery", "-A", "stock_celery", "worker", "-P", pool, "-c", str(concurrency)]
        with running(*arguments, "-O", "fair", "--without-gossip", "--without-mingle", STOCK_REDIS_URL=valkey.url):
            until(lambda: client.scard("_kombu.binding.celery.pidbox") > 0, "the stock worker to be ready")
            yield valkey.url


def stock_rate(url: str, count: int) -> float:
    """Tasks per second from the first publish to the last stored result, driven by a process of its own."""
    answer = subprocess.run(
        [sys.executable, str(HERE / "stock_driver.py"), str(count)],
        env={**os.environ, "STOCK_REDIS_URL": url},
        capture_output=True,
        check=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    return float(answer.stdout)


def rounds(pool: str, concurrency: int, count: int, operations: int) -> list[tuple[float, float]]:
    """Waybill's and stock Celery's rates in interleaved rounds; only one of the two runs at a time."""
    rates = []
    for _ in range(count):
        with waybill_worker(pool, concurrency) as client:
            waybill_rate(client, BATCH)
            ours = waybill_rate(client, operations)
        with stock_worker(pool, concurrency) as url:
            stock_rate(url, 100)
            stock = stock_rate(url, operations // 3)
        rates.append((ours, stock))
    return rates
