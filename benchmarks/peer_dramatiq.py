"""Dramatiq's no-op: its Redis broker with its own middleware."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS_URL"]))


@dramatiq.actor
def do_nothing(_text: str) -> None:
    """Take what came."""
