"""Sends no-ops to Dramatiq in a loop, until each is acknowledged."""

import os

import redis
from driving import TEXT, drive
from peer_dramatiq import do_nothing


def main() -> None:
    """One round. Dramatiq deletes a message when it acknowledges it."""
    client = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"])
    sent = 0

    def publish(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            do_nothing.send(TEXT)
        sent += count

    drive(publish, lambda: sent - int(client.hlen("dramatiq:default.msgs")))


if __name__ == "__main__":
    main()
