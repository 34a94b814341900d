"""Accepts no-ops in batches of 500, as a gateway's batch RPC does, until each has SUCCEEDED."""

import asyncio
import os
import secrets

import redis
from chassis.operations import Operations, Submission
from chassis.store import AsyncStore
from driving import TEXT, drive
from google.protobuf.wrappers_pb2 import StringValue
from noop_service.tasks import app, do_nothing

BATCH = 500
PREFIX = "wb:{noop}:"


def publish(count: int, *, named: bool = False) -> None:
    """One call to the store for each batch. `named`: each with a request_id of its own."""

    async def accept() -> None:
        store = AsyncStore.connect("noop", os.environ["BENCH_REDIS_URL"])
        operations = Operations(store, app)
        for first in range(0, count, BATCH):
            size = min(BATCH, count - first)
            ids = [secrets.token_hex(16) if named else "" for _ in range(size)]
            submissions = [Submission(do_nothing, StringValue(value=TEXT), request_id=id_) for id_ in ids]
            await operations.accept_many(submissions, method="bench")
        await store.close()

    asyncio.run(accept())


def main() -> None:
    """One round."""
    client = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"])

    def exported() -> bool:
        cursor = client.get(PREFIX + "spans:cursor")
        return cursor == client.xinfo_stream(PREFIX + "events")["last-generated-id"]

    telemetry = os.environ.get("BENCH_TELEMETRY") == "1"
    drive(publish, lambda: client.zcard(PREFIX + "finished"), caught_up=exported if telemetry else lambda: True)


if __name__ == "__main__":
    main()
