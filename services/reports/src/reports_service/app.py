"""The Celery app of reports: its queues, and which tasks wait in which."""

from __future__ import annotations

from chassis.worker import QueueSpec, ServiceApp

from reports_service import store

app = ServiceApp(
    "reports",
    queues=[
        # For renderings that nobody waits for, so that they hold up none that somebody does.
        QueueSpec("reports.bulk", tasks=["reports.bulk_*"]),
        QueueSpec("reports.default", tasks=["reports.*"]),
    ],
    # Rendering takes the processor and native code that may not be interrupted: a process each.
    pool="prefork",
    concurrency=2,
    outbox=lambda: store.reports().engine,
    history=lambda: store.reports().engine,
)
