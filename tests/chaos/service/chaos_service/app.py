"""The service's queues."""

from chassis.worker import QueueSpec, ServiceApp

from chaos_service import store

app = ServiceApp(
    "chaos",
    queues=[QueueSpec("chaos.bulk", tasks=["chaos.bulk_*"]), QueueSpec("chaos.default", tasks=["chaos.*"])],
    concurrency=2,
    history=store.engine,
)
