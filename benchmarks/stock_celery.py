"""The baseline: a stock Celery app on the stock Redis transport, results kept in Redis, late acknowledgement."""

import os

from celery import Celery

URL = os.environ["BENCH_REDIS_URL"]

app = Celery("stock", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    result_expires=3600,
    task_serializer="json",
    accept_content=["json"],
    worker_pool_start_method="spawn",
)


@app.task(name="stock.do_nothing")
def do_nothing(text: str) -> str:
    """Answer what came."""
    return text
