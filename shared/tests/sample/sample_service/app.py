"""The sample's queues."""

from chassis.worker import QueueSpec, ServiceApp

from sample_service import store

app = ServiceApp(
    "sample",
    queues=[
        QueueSpec("sample.bulk", tasks=["sample.bulk_*"]),
        QueueSpec("sample.default", tasks=["sample.*"]),
    ],
    concurrency=4,
    outbox=store.engine,
    history=store.engine,
)
