"""What a waiting operation with a payload of 200 bytes takes of Redis's memory, everything counted.

The same in every round, so there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

import redis
import sides
from figures import Row
from processes import output

WAITING = 100_000
KILOBYTE = 1000


def kilobytes_each(publisher: str, waiting: int) -> float:
    """Growth of used_memory for each of them: record, indexes, event log and, where it has one, request_id."""
    with sides.valkey() as server:
        client = redis.Redis.from_url(server.url)
        before = int(client.info("memory")["used_memory"])
        output("publish.py", publisher, str(waiting * 4 // 5), BENCH_REDIS_URL=server.url)
        grown = int(client.info("memory")["used_memory"]) - before
        return grown / client.zcard("wb:{noop}:ops") / KILOBYTE


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """Without and with request_ids, whose keys stay for 24 hours."""
    waiting = plan[1] or WAITING
    figure = kilobytes_each("accept_many", waiting)
    yield Row("Redis memory per waiting operation", [figure], unit=" KB", most=2.0, note="payload of 200 bytes")
    named = kilobytes_each("accept_many_named", waiting)
    yield Row("the same, each with a request_id", [named], unit=" KB", note="of 32 characters")
