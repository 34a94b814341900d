"""The app: in the place of `celery.Celery`."""

from chassis.worker import QueueSpec, ServiceApp

app = ServiceApp(
    "shop",
    # Plain tasks wait in the first one, unless they name another.
    queues=[QueueSpec("shop.default", tasks=["shop.*"])],
    concurrency=4,
)
