"""The Celery app of seedling: its queues, and which tasks wait in which."""

from __future__ import annotations

from chassis.worker import QueueSpec, ServiceApp

from seedling_service import store

app = ServiceApp(
    "seedling",
    queues=[
        # The first that names a task has it.
        QueueSpec("seedling.default", tasks=["seedling.*"]),
    ],
    # For tasks that wait for others most of the time; "prefork" for those that use the processor.
    pool="threads",
    concurrency=8,
    history=store.engine,
)
