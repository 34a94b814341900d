"""The dashboard under load: event to screen in a real browser, memory over many events, and what watching costs.

`python benchmarks/dashboard.py --events 1000000` is the long form of the memory's row.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).parent))

import grpc
import psutil
import screen
import sides
from figures import Row, percentile
from processes import free_port, output, running, scheduled_seconds, until
from waybill.events.v1 import events_pb2, events_pb2_grpc

# Each operation is accepted, begins and succeeds: three changes.
CHANGES = 3
PER_SECOND = 200
SECONDS = 30
MEMORY_EVENTS = 30_000
MEMORY_PER_SECOND = 1_500
COST_OPERATIONS = 4_000
_ORDER = {2: 0, 3: 1, 5: 2}
_NAMES = {"QUEUED": 0, "RUNNING": 1, "SUCCEEDED": 2}
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Watched:
    """What the log says, and what was seen of it."""

    latencies_ms: list[float]
    missing: int
    longest_task_ms: float


@contextlib.contextmanager
def dashboard(side: sides.Side) -> Iterator[tuple[str, int]]:
    """Address and pid of a dashboard over the side's gateway."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "WAYBILL_ROUTES": f"noop={side.environment['NOOP_LISTEN']}",
            "WAYBILL_STATE_DIR": folder,
            "DASHBOARD_LISTEN": f"127.0.0.1:{port}",
            "DASHBOARD_TRACES_TARGET": "",
            "DASHBOARD_MAX_STREAMS": "8",
        }
        with running("-m", "dashboard_service", "web", **environment) as process:
            address = f"http://127.0.0.1:{port}"
            until(lambda: _serves(address), "the dashboard to serve", every=0.2)
            yield address, process.pid


def _serves(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=2) as answer:  # noqa: S310 (an address of ours)
            return bool(answer.status == 200)  # noqa: PLR2004
    except OSError:
        return False


@contextlib.contextmanager
def open_page(address: str) -> Iterator[None]:
    """The stream of the operations page, read and thrown away: a browser on another machine costs the work nothing."""
    with urllib.request.urlopen(f"{address}/live?changes=all", timeout=60) as answer:  # noqa: S310 (as above)
        threading.Thread(target=_drain, args=(answer,), daemon=True).start()
        yield


def _drain(answer: BinaryIO) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        while answer.read(4096):
            pass


class Log:
    """The service's own events of operations, as they come."""

    def __init__(self, target: str) -> None:
        self.events: list[tuple[str, int, float]] = []
        self._channel = grpc.insecure_channel(target)
        self._call = events_pb2_grpc.EventServiceStub(self._channel).Subscribe(
            events_pb2.SubscribeRequest(service="noop")
        )
        self._ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._ready.wait(60)

    def _read(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for answer in self._call:
                self._ready.set()
                change = events_pb2.OperationChanged()
                if answer.HasField("event") and answer.event.data.Unpack(change):
                    self.events.append((change.operation, change.state, answer.event.time.ToNanoseconds() / 1e6))

    def close(self) -> None:
        self._call.cancel()
        self._channel.close()


def watch(side: sides.Side, address: str, count: int, per_second: float) -> Watched:
    """Drive and look: how long after its event each change, or a later one of its operation, was on the screen."""
    log = Log(side.environment["NOOP_LISTEN"])
    with screen.looking(address) as looked:
        _pace(side, count, per_second)
        until(lambda: len(log.events) >= CHANGES * count, "all events", every=0.1)
        seen: dict[str, list[tuple[int, float]]] = {}

        def all_ended() -> bool:
            for name, state, at in looked.seen():
                seen.setdefault(name, []).append((_NAMES.get(state, 2), at))
            return sum(any(rank == 2 for rank, _ in shown) for shown in seen.values()) >= count  # noqa: PLR2004

        with contextlib.suppress(TimeoutError):
            until(all_ended, "all rows", every=0.2)
        longest = looked.longest_task_ms()
    log.close()
    latencies, missing = [], 0
    for name, state, at in log.events:
        shown = [when for rank, when in seen.get(name, ()) if rank >= _ORDER.get(state, 2)]
        missing += not shown
        latencies += [min(shown) - at] if shown else []
    return Watched(latencies, missing, longest)


def _pace(side: sides.Side, count: int, per_second: float) -> None:
    output("drive_paced.py", str(count), str(per_second), **side.environment, BENCH_REDIS_URL=side.url)


def memory(side: sides.Side, address: str, pid: int, events: int) -> tuple[float, float, int]:
    """Growth of the page's heap and of the server's memory from a quarter on, in MB, and how many rows there are."""
    quarter = max(1, events // CHANGES // 4)
    (server,) = psutil.Process(pid).children() or [psutil.Process(pid)]
    with screen.looking(address) as looked:
        _pace(side, quarter, MEMORY_PER_SECOND / CHANGES)
        looked.seen()
        before, resident = looked.memory(), server.memory_info().rss
        for _ in range(3):
            _pace(side, quarter, MEMORY_PER_SECOND / CHANGES)
            looked.seen()
        after = looked.memory()
        heap = (after["heap"] - before["heap"]) / MEGABYTE
        return heap, (server.memory_info().rss - resident) / MEGABYTE, after["rows"]


def cost(side: sides.Side, count: int) -> float:
    """CPU seconds of the store, the gateway and the worker for so many operations at the rate of the first row."""
    pids = [pid for name in ("server", "gateway", "worker") for pid in side.pids[name]]
    before = sum(map(scheduled_seconds, pids))
    _pace(side, count, PER_SECOND / CHANGES)
    return sum(map(scheduled_seconds, pids)) - before


def costs(rounds: int, count: int) -> Iterator[tuple[float, float]]:
    """CPU seconds watched and alone, of two stacks at the same time: what the machine does meanwhile, both feel.

    They change places within each round, so that what makes one of them dearer counts on both sides.
    """
    with sides.waybill("threads", 8) as one, sides.waybill("threads", 8) as other, ThreadPoolExecutor(2) as pool:
        for side in (one, other):
            _pace(side, 200, 100)

        def placed(watched: sides.Side, alone: sides.Side) -> list[float]:
            with dashboard(watched) as (address, _), open_page(address):
                return list(pool.map(cost, (watched, alone), (count // 2, count // 2)))

        for _ in range(rounds):
            watched, alone = map(sum, zip(placed(one, other), placed(other, one), strict=True))
            yield watched, alone


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """Raises FileNotFoundError where there is no browser."""
    rounds, operations = plan
    count = operations or PER_SECOND * SECONDS // CHANGES
    with sides.waybill("threads", 8) as side:
        _pace(side, 200, 100)
        with dashboard(side) as (address, pid):
            watched = [watch(side, address, count, PER_SECOND / CHANGES) for _ in range(rounds)]
            yield Row(
                f"event to screen at {PER_SECOND} changes/s, median",
                [percentile(each.latencies_ms, 50) for each in watched],
                unit=" ms",
                most=300,
                note=f"95th percentile {max(percentile(each.latencies_ms, 95) for each in watched):,.0f} ms",
            )
            yield Row("changes that were not applied", [each.missing for each in watched], unit="", most=0)
            yield Row(
                "longest task of the page's main thread", [e.longest_task_ms for e in watched], unit=" ms", most=200
            )
            yield from memory_rows(side, address, pid, MEMORY_EVENTS)
    pairs = list(costs(rounds, count))
    watched_us, alone_us = (1e6 * median(each) / count for each in zip(*pairs, strict=True))
    yield Row(
        "CPU of store, gateway and worker, watched / alone",
        [watched_cost / alone for watched_cost, alone in pairs],
        most=1.03,
        note=f"{watched_us:,.0f} against {alone_us:,.0f} µs per no-op",
    )


def memory_rows(side: sides.Side, address: str, pid: int, events: int) -> Iterator[Row]:
    """Growth over the last three quarters of so many events."""
    heap, server, shown = memory(side, address, pid, events)
    note = f"{events:,} events; {shown} rows shown"
    yield Row("growth of the page's heap over three quarters of them", [heap], unit=" MB", most=10, note=note)
    yield Row("growth of the dashboard's own memory", [server], unit=" MB", most=20, note=note)


def main() -> None:
    """The memory's rows alone, over as many events as are wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=MEMORY_EVENTS)
    options = parser.parse_args()
    with sides.waybill("threads", 8) as side, dashboard(side) as (address, pid):
        for row in memory_rows(side, address, pid, options.events):
            print(row, flush=True)


if __name__ == "__main__":
    main()
