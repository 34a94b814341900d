"""The sides of an end-to-end comparison: each starts a Valkey and its processes, and can be driven."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from chassis.embedded import EmbeddedValkey
from chassis.tether import tethered
from processes import HERE, PATIENCE_SECONDS, environment_with, free_port, running, until


@dataclass(frozen=True, slots=True)
class Result:
    """One round of one side."""

    operations: int
    seconds: float
    #: Of each kind of process, while these operations ran.
    cpu_seconds: dict[str, float]

    @property
    def rate(self) -> float:
        return self.operations / self.seconds

    def cpu_us(self, name: str) -> float:
        """CPU microseconds per operation."""
        return self.cpu_seconds.get(name, 0.0) / self.operations * 1e6


@dataclass(frozen=True, slots=True)
class Side:
    """What runs, and the driver that gives it work from a process of its own."""

    url: str
    driver: str
    environment: dict[str, str]
    pids: dict[str, list[int]] = field(default_factory=dict)

    def drive(self, count: int, warm_up: int) -> Result:
        """Raises CalledProcessError when the driver fails."""
        watched = {"BENCH_REDIS_URL": self.url, "BENCH_PIDS": json.dumps(self.pids)}
        answer = subprocess.run(
            tethered([sys.executable, f"drive_{self.driver}.py", str(count), str(warm_up)], os.getpid()),
            cwd=HERE,
            env=environment_with({**self.environment, **watched}),
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            timeout=PATIENCE_SECONDS * 2,
        )
        return Result(**json.loads(answer.stdout))


@contextlib.contextmanager
def valkey() -> Iterator[EmbeddedValkey]:
    """The same for every side: append-only file, fsync always."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder)) as server:
        yield server


@contextlib.contextmanager
def waybill(pool: str, concurrency: int, *, workers: int = 1, telemetry: bool = True) -> Iterator[Side]:
    """A gateway, which exports the spans where telemetry is on, and workers of the no-op service."""
    spans = free_port()
    with valkey() as server, contextlib.ExitStack() as stack:
        environment = {
            "WAYBILL_REDIS_URL": server.url,
            "BENCH_POOL": pool,
            "BENCH_CONCURRENCY": str(concurrency),
            "BENCH_TELEMETRY": str(int(telemetry)),
            "NOOP_LISTEN": f"127.0.0.1:{free_port()}",
            "WAYBILL_ROUTES": "noop=127.0.0.1:1",
        }
        pids = {"server": [server.pid or 0]}
        if telemetry:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{spans}"
            pids["span receiver"] = [stack.enter_context(running("span_receiver.py", str(spans))).pid]
        pids["gateway"] = [stack.enter_context(running("-m", "noop_service", "gateway", **environment)).pid]
        pids["worker"] = [
            stack.enter_context(running("-m", "noop_service", "worker", **environment)).pid for _ in range(workers)
        ]
        client = redis.Redis.from_url(server.url)
        until(lambda: client.hlen("wb:{noop}:workers") == workers, "the workers to be ready")
        yield Side(server.url, "waybill", environment, pids)


@contextlib.contextmanager
def stock(pool: str, concurrency: int) -> Iterator[Side]:
    """A worker of the stock app."""
    arguments = ["-m", "celery", "-A", "stock_celery", "worker", "-P", pool, "-c", str(concurrency)]
    with valkey() as server:
        client = redis.Redis.from_url(server.url)
        with running(
            *arguments, "-O", "fair", "--without-gossip", "--without-mingle", BENCH_REDIS_URL=server.url
        ) as worker:
            until(lambda: client.scard("_kombu.binding.celery.pidbox") > 0, "the stock worker to be ready")
            yield Side(server.url, "stock", {}, {"server": [server.pid or 0], "worker": [worker.pid]})
