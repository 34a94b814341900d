"""The tasks of seedling, where gateway and worker meet."""

from __future__ import annotations

from datetime import timedelta

from chassis.retries import RetryPolicy
from chassis.worker import Attempt
from waybill.seedling.v1 import seedling_pb2

from seedling_service import processing, store
from seedling_service.app import app


@app.task(
    name="seedling.process_item",
    policy=RetryPolicy(max_attempts=5, max_backoff=timedelta(minutes=2)),
    timeout=timedelta(minutes=1),
)
def process_item(attempt: Attempt, request: seedling_pb2.ProcessItemRequest) -> seedling_pb2.ProcessItemResponse:
    """Count the words of a text and keep the number."""
    words = processing.count_words(request.text)
    record = store.opened().keep(seedling_pb2.Record(record_id=attempt.effect_id, words=words))
    return seedling_pb2.ProcessItemResponse(record=record)
