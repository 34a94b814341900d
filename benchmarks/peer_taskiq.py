"""taskiq's no-op on a Redis stream, without a result backend."""

import os

from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=os.environ["BENCH_REDIS_URL"])


@broker.task
async def do_nothing(text: str) -> None:
    """Take what came."""
