"""How long pages, filters, dead letters and statistics take over a million archived operations in SQLite.

Asked of the service's own code as a gateway asks it, without gRPC: what is measured is the archive. Nothing is live.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import archive_fill
import sides
import sqlalchemy as sa
from chassis import history, paging
from chassis.database import open_database
from chassis.dead_letters import DeadLetterServicer
from chassis.history import Archive
from chassis.listing import list_page, parse_filter
from chassis.operation_admin import OperationServicer
from chassis.operations import Operations
from chassis.store import AsyncStore
from chassis.telemetry import now_us
from figures import Row
from waybill.admin.v1 import admin_pb2

MILLION = 1_000_000
#: Asked so often in a round; a round's figure is their median.
ASKED = 15
BOUND_MS = 300
PAGE = 50

Ask = Callable[[], Awaitable[Any]]


def _questions(operations: Operations, deep: str) -> Mapping[str, Ask]:
    """What is asked, by the name of its row."""
    ago = (datetime.now(UTC) - timedelta(days=n) for n in (4, 3))
    begin, end = (f"{instant:%Y-%m-%dT%H:%M:%SZ}" for instant in ago)
    letters = DeadLetterServicer(operations.app, operations)  # type: ignore[arg-type]
    bulk = OperationServicer(operations, archived_within=timedelta(minutes=10))

    def page(wanted: str = "", token: str = "") -> Ask:
        return lambda: list_page(
            operations.store, "ops", parse_filter(wanted), size=PAGE, token=token, archive=operations.archive
        )

    return {
        "first page": page(),
        "deep page, nine tenths in": page(token=deep),
        "state = FAILED": page("state = FAILED"),
        "task": page("task = shop.close_books"),
        "label that few have": page("labels.customer = c77"),
        "label and state": page("labels.team = books AND state = FAILED"),
        "error text": page('error:"no space left"'),
        "error text that none has": page('error:"segmentation fault"'),
        "time range": page(f"create_time >= {begin} AND create_time < {end}"),
        "search for a request_id": page("order-00999900"),
        "search that finds nothing, a short page": page("nowhere"),
        "dead letters and their groups": lambda: letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(), None),
        "dead letters of a group": lambda: letters.ListDeadLetters(
            admin_pb2.ListDeadLettersRequest(group="shop.close_books/TIMEOUT"), None
        ),
        "statistics of an hour": lambda: bulk.GetOperationStats(admin_pb2.GetOperationStatsRequest(), None),
    }


async def _milliseconds(ask: Ask) -> float:
    begun = time.perf_counter()
    await ask()
    return (time.perf_counter() - begun) * 1000


async def _measure(url: str, redis_url: str, rounds: int) -> dict[str, list[float]]:
    """The medians of each round, the questions taking turns; a round before them warms up."""
    metadata = sa.MetaData()
    history.tables(metadata)
    store = AsyncStore.connect("shop", redis_url)
    app = SimpleNamespace(service="shop", queue_bound=0)
    operations = Operations(store, app, archive=Archive(open_database(url, metadata)))
    deep = paging.encode((now_us() - archive_fill.WEEK_US * 9 // 10, "z"))
    questions = _questions(operations, deep)
    medians: dict[str, list[float]] = {name: [] for name in questions}
    for number in range(rounds + 1):
        times: dict[str, list[float]] = {name: [] for name in questions}
        for _ in range(ASKED):
            for name, ask in questions.items():
                times[name].append(await _milliseconds(ask))
        for name, taken in times.items():
            if number:
                medians[name].append(statistics.median(taken))
    await store.close()
    return medians


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """`operations` is how many are archived instead of a million. Filling takes minutes."""
    rounds, count = plan
    archived = count or MILLION
    with tempfile.TemporaryDirectory() as folder, sides.valkey() as server:
        url = archive_fill.fill(Path(folder), archived)
        for name, medians in asyncio.run(_measure(url, server.url, rounds)).items():
            yield Row(f"{archived:,} archived, {name}", medians, unit=" ms", most=BOUND_MS)
