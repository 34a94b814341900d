"""The service's queues."""

from chassis.worker import QueueSpec, ServiceApp

app = ServiceApp(
    "chaos",
    queues=[QueueSpec("chaos.bulk", tasks=["chaos.bulk_*"]), QueueSpec("chaos.default", tasks=["chaos.*"])],
    concurrency=2,
)
