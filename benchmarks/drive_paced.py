"""Accepts so many no-ops, so many a second, whatever becomes of them: `drive_paced.py OPERATIONS PER_SECOND`."""

import asyncio
import os
import sys
import time

from chassis.operations import Operations, Submission
from chassis.store import AsyncStore
from driving import TEXT
from google.protobuf.wrappers_pb2 import StringValue
from noop_service.tasks import app, do_nothing

STEP_SECONDS = 0.05


async def main(count: int, per_second: float) -> None:
    """What is late goes with the next step: the mean is kept."""
    store = AsyncStore.connect("noop", os.environ["BENCH_REDIS_URL"])
    operations = Operations(store, app)
    begin, accepted = time.monotonic(), 0
    while accepted < count:
        await asyncio.sleep(STEP_SECONDS)
        due = min(count, int((time.monotonic() - begin) * per_second)) - accepted
        if due > 0:
            submissions = [Submission(do_nothing, StringValue(value=TEXT)) for _ in range(due)]
            await operations.accept_many(submissions, method="bench")
            accepted += due
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
