"""A task that does nothing."""

from datetime import timedelta

from chassis.attempts import Attempt
from chassis.retries import RetryPolicy
from google.protobuf.wrappers_pb2 import StringValue

from noop_service.app import app

__all__ = ["app"]


@app.task(name="noop.do_nothing", policy=RetryPolicy(max_attempts=3), timeout=timedelta(seconds=30))
def do_nothing(_: Attempt, request: StringValue) -> StringValue:
    """Answer what came."""
    return request
