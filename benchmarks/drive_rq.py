"""Enqueues no-ops to RQ in a loop, until each has finished."""

import os

import redis
from driving import TEXT, drive
from peer_rq import do_nothing
from rq import Queue

CLIENT = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"])


def publish(count: int) -> None:
    """One connection for all."""
    queue = Queue(connection=CLIENT)
    for _ in range(count):
        queue.enqueue(do_nothing, TEXT)


def main() -> None:
    """One round."""
    drive(publish, lambda: int(CLIENT.zcard("rq:finished:default")))


if __name__ == "__main__":
    main()
