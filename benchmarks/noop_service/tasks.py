"""Tasks that do nothing."""

import time
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


@app.task(name="noop.take_a_while", policy=RetryPolicy(max_attempts=3), timeout=timedelta(seconds=30))
def take_a_while(_: Attempt, request: StringValue) -> StringValue:
    """Answer what came after 100 ms, so that somebody waits by then."""
    time.sleep(0.1)
    return request


@app.task(name="noop.wait_for_nothing", policy=RetryPolicy(max_attempts=3), timeout=timedelta(seconds=30))
def wait_for_nothing(_: Attempt, request: StringValue) -> StringValue:
    """Runs in no benchmark: its queue is paused."""
    return request
