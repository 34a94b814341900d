"""Queue and pool of the no-op."""

import os

from chassis.worker import QueueSpec, ServiceApp

app = ServiceApp(
    "noop",
    queues=[QueueSpec("noop.default", tasks=["noop.*"])],
    pool=os.environ.get("BENCH_POOL", "threads"),
    concurrency=int(os.environ.get("BENCH_CONCURRENCY", "8")),
)
