"""Publishes no-ops to the stock app and prints how many finish a second: `python stock_driver.py COUNT`."""

import os
import sys
import time

import redis
from processes import until
from stock_celery import app, do_nothing

TEXT = "x" * 200
RESULTS = "celery-task-meta-*"


def _results(client: redis.Redis) -> int:
    return sum(1 for _ in client.scan_iter(RESULTS, count=5_000))


def main() -> None:
    """One round."""
    count = int(sys.argv[1])
    client = redis.Redis.from_url(os.environ["STOCK_REDIS_URL"])
    before = _results(client)
    began = time.perf_counter()
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for _ in range(count):
            do_nothing.apply_async((TEXT,), producer=producer)
    until(lambda: _results(client) - before >= count, "every task to finish", every=0.02)
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
