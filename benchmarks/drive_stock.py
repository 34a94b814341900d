"""Publishes no-ops to the stock app by `apply_async` in a loop, until each result is stored."""

import os

import redis
from driving import TEXT, drive
from stock_celery import app, do_nothing


def publish(count: int) -> None:
    """One connection for all."""
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for _ in range(count):
            do_nothing.apply_async((TEXT,), producer=producer)


def main() -> None:
    """One round. Nothing but the result backend uses SETEX, once for each result."""
    client = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"])

    def ended() -> int:
        return int(client.info("commandstats").get("cmdstat_setex", {}).get("calls", 0))

    drive(publish, ended)


if __name__ == "__main__":
    main()
