"""The Celery app of notify: its queues, and which tasks wait in which."""

from __future__ import annotations

from chassis.worker import QueueSpec, ServiceApp

from notify_service import store

app = ServiceApp(
    "notify",
    queues=[
        QueueSpec("notify.default", tasks=["notify.send_notification"]),
        QueueSpec("notify.mail", tasks=["notify.deliver_email"]),
        QueueSpec("notify.webhook", tasks=["notify.deliver_webhook"]),
    ],
    # Deliveries wait for other machines most of the time.
    pool="threads",
    concurrency=16,
    outbox=store.engine,
    history=store.engine,
)
