"""The Celery app of metrics: its queues."""

from chassis.worker import QueueSpec, ServiceApp

from metrics_service import store

app = ServiceApp(
    "metrics",
    queues=[
        QueueSpec("metrics.ingest", tasks=["metrics.ingest_*"]),
        QueueSpec("metrics.alerts", tasks=["metrics.evaluate_rules"]),
    ],
    pool="threads",
    outbox=store.engine,
    history=store.engine,
)
