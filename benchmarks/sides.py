"""The sides of an end-to-end comparison: each starts a Valkey and its processes, and can be driven."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import redis
from chassis.embedded import EmbeddedValkey
from processes import free_port, output, running, until

Pool = Literal["threads", "solo", "prefork"]
SPAN_RECEIVER = "span receiver"


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

    @property
    def cpu_us_of_all(self) -> float:
        """Without the span receiver, which stands for a collector."""
        return sum(map(self.cpu_us, self.cpu_seconds)) - self.cpu_us(SPAN_RECEIVER)


@dataclass(frozen=True, slots=True)
class Side:
    """What runs, and the driver that gives it work from a process of its own."""

    url: str
    driver: str
    environment: dict[str, str]
    pids: dict[str, list[int]] = field(default_factory=dict)
    #: First rounds are this much smaller, for a side that is this much slower.
    weight: int = 1

    def drive(self, count: int, warm_up: int) -> Result:
        """Raises CalledProcessError when the driver fails."""
        watched = {"BENCH_REDIS_URL": self.url, "BENCH_PIDS": json.dumps(self.pids)}
        answer = output(f"drive_{self.driver}.py", str(count), str(warm_up), **self.environment, **watched)
        return Result(**json.loads(answer))


@contextlib.contextmanager
def valkey() -> Iterator[EmbeddedValkey]:
    """The same for every side: append-only file, fsync always."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder)) as server:
        yield server


@contextlib.contextmanager
def waybill(
    pool: Pool, concurrency: int, *, workers: int = 1, telemetry: bool = True, events: bool = False
) -> Iterator[Side]:
    """A gateway, which exports the spans where telemetry is on, and workers of the no-op service.

    `events`: the workers send Celery's task events, to one listener.
    """
    with valkey() as server, contextlib.ExitStack() as stack:
        environment = {
            "WAYBILL_REDIS_URL": server.url,
            "BENCH_POOL": pool,
            "BENCH_CONCURRENCY": str(concurrency),
            "BENCH_TELEMETRY": str(int(telemetry)),
            "BENCH_EVENTS": str(int(events)),
            "NOOP_LISTEN": f"127.0.0.1:{free_port()}",
            "WAYBILL_ROUTES": "noop=127.0.0.1:1",
        }

        def start(*arguments: str) -> list[int]:
            return [stack.enter_context(running(*arguments, **environment)).pid]

        pids = {"server": [server.pid or 0]}
        if telemetry:
            spans = free_port()
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{spans}"
            pids[SPAN_RECEIVER] = start("span_receiver.py", str(spans))
        pids["gateway"] = start("-m", "noop_service", "gateway")
        if events:
            pids["listener"] = start("-m", "celery", "-A", "noop_service.app", "events", "--dump")
        pids["worker"] = [pid for _ in range(workers) for pid in start("-m", "noop_service", "worker")]
        client = redis.Redis.from_url(server.url)
        until(lambda: client.hlen("wb:{noop}:workers") == workers, "the workers to be ready")
        yield Side(server.url, "waybill", environment, pids)


@contextlib.contextmanager
def stock(pool: Pool, concurrency: int) -> Iterator[Side]:
    """A worker of the stock app."""
    command = ["-m", "celery", "-A", "stock_celery", "worker", "-P", pool, "-c", str(concurrency)]
    command += ["-O", "fair", "--without-gossip", "--without-mingle"]
    with valkey() as server, running(*command, BENCH_REDIS_URL=server.url) as worker:
        client = redis.Redis.from_url(server.url)
        until(lambda: client.scard("_kombu.binding.celery.pidbox") > 0, "the stock worker to be ready")
        yield Side(server.url, "stock", {}, {"server": [server.pid or 0], "worker": [worker.pid]})


@contextlib.contextmanager
def dramatiq() -> Iterator[Side]:
    """Two processes with eight threads each, Dramatiq's own middleware, no results."""
    with (
        valkey() as server,
        running(
            *("-m", "dramatiq", "peer_dramatiq", "--processes", "2", "--threads", "8"), BENCH_REDIS_URL=server.url
        ) as worker,
    ):
        client = redis.Redis.from_url(server.url)
        until(lambda: client.zcard("dramatiq:__heartbeats__") > 0, "Dramatiq to be ready")
        yield Side(server.url, "dramatiq", {}, {"server": [server.pid or 0], "worker": [worker.pid]})


@contextlib.contextmanager
def taskiq() -> Iterator[Side]:
    """Two processes on one Redis stream, no results."""
    with (
        valkey() as server,
        running(
            *("-m", "taskiq", "worker", "peer_taskiq:broker", "--workers", "2", "--log-level", "WARNING"),
            BENCH_REDIS_URL=server.url,
        ) as worker,
    ):
        client = redis.Redis.from_url(server.url)
        until(lambda: _consumers(client) >= 2, "taskiq to be ready")  # noqa: PLR2004
        yield Side(server.url, "taskiq", {}, {"server": [server.pid or 0], "worker": [worker.pid]})


def _consumers(client: redis.Redis) -> int:
    if not client.exists("taskiq"):
        return 0
    return sum(group["consumers"] for group in client.xinfo_groups("taskiq"))


@contextlib.contextmanager
def rq() -> Iterator[Side]:
    """Two workers; each forks for each job, and keeps results for 500 s, as is its default."""
    with valkey() as server, contextlib.ExitStack() as stack:
        command = ("-m", "rq.cli", "worker", "--url", server.url, "--quiet")
        workers = [stack.enter_context(running(*command)).pid for _ in range(2)]
        client = redis.Redis.from_url(server.url)
        until(lambda: client.scard("rq:workers") == len(workers), "RQ to be ready")
        yield Side(server.url, "rq", {}, {"server": [server.pid or 0], "worker": workers}, weight=10)
