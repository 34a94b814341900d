"""Sends no-ops to taskiq in a loop, until each is acknowledged."""

import asyncio
import os

import redis
from driving import TEXT, drive
from peer_taskiq import broker, do_nothing


def publish(count: int) -> None:
    """One connection pool for all."""

    async def send() -> None:
        await broker.startup()
        for _ in range(count):
            await do_nothing.kiq(TEXT)
        await broker.shutdown()

    asyncio.run(send())


def main() -> None:
    """One round. Every message is acknowledged by an XACK of its own."""
    client = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"])

    def ended() -> int:
        return int(client.info("commandstats").get("cmdstat_xack", {}).get("calls", 0))

    drive(publish, ended)


if __name__ == "__main__":
    main()
