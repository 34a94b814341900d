"""Queues and pool of the no-op. The latency benchmark pauses noop.held."""

import os

from chassis.worker import QueueSpec, ServiceApp

app = ServiceApp(
    "noop",
    queues=[
        QueueSpec("noop.held", tasks=["noop.wait_for_nothing"]),
        QueueSpec("noop.default", tasks=["noop.*"]),
    ],
    pool=os.environ.get("BENCH_POOL", "threads"),
    concurrency=int(os.environ.get("BENCH_CONCURRENCY", "8")),
)
app.conf.worker_send_task_events = os.environ.get("BENCH_EVENTS") == "1"
