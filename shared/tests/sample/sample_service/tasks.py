"""Tasks that behave well, badly, and worse."""

import os
import signal
import threading
from datetime import timedelta
from pathlib import Path

from chassis.attempts import Attempt, FanOut
from chassis.errors import PermanentError, TransientError
from chassis.logging import get_logger
from chassis.retries import RetryPolicy
from google.protobuf.struct_pb2 import Struct

from sample_service import store
from sample_service.app import app

log = get_logger(__name__)

QUICK = RetryPolicy(max_attempts=5, min_backoff=timedelta(milliseconds=20), max_backoff=timedelta(milliseconds=50))
STEP_SECONDS = 0.02


def struct(**fields: object) -> Struct:
    made = Struct()
    made.update(fields)
    return made


@app.task(name="sample.echo", policy=QUICK)
def echo(attempt: Attempt, request: Struct) -> Struct:
    return request


@app.task(name="sample.bulk_echo", policy=QUICK)
def bulk_echo(attempt: Attempt, request: Struct) -> Struct:
    return request


@app.task(name="sample.flaky", policy=QUICK)
def flaky(attempt: Attempt, request: Struct) -> Struct:
    """Fails in its first `failures` attempts."""
    if attempt.number <= request["failures"]:
        raise TransientError(f"attempt {attempt.number} fails", reason="STILL_FLAKY")
    return struct(attempt=attempt.number)


@app.task(name="sample.fail", policy=QUICK)
def fail(attempt: Attempt, request: Struct) -> None:
    raise PermanentError("it never works", reason="NEVER_WORKS")


@app.task(name="sample.hold", policy=QUICK, timeout=timedelta(seconds=60))
def hold(attempt: Attempt, request: Struct) -> Struct:
    """Reports progress, then runs until the file `until` exists, or it is told to stop."""
    store.note_run(attempt)
    attempt.progress(10, "holding")
    _until_there(attempt, request["until"])
    attempt.progress(90, "let go")
    return struct(attempt=attempt.number, pid=os.getpid())


@app.task(name="sample.brief", policy=RetryPolicy(max_attempts=1), timeout=timedelta(seconds=0.3))
def brief(attempt: Attempt, request: Struct) -> None:
    """Outlives its timeout, and notices."""
    _until_there(attempt, "")


@app.task(name="sample.deaf", policy=RetryPolicy(max_attempts=1), timeout=timedelta(seconds=0.5))
def deaf(attempt: Attempt, request: Struct) -> None:
    """Reports progress once, then heeds nothing until its process ends."""
    attempt.progress(10, "deaf")
    threading.Event().wait()


@app.task(name="sample.deaf_and_patient", policy=RetryPolicy(max_attempts=1), timeout=timedelta(minutes=10))
def deaf_and_patient(attempt: Attempt, request: Struct) -> None:
    """As `sample.deaf`, within a timeout that no test waits for."""
    attempt.progress(10, "deaf")
    threading.Event().wait()


@app.task(name="sample.kill_own_process", policy=QUICK)
def kill_own_process(attempt: Attempt, request: Struct) -> Struct:
    """Kills the process that it runs in, in its first `times` attempts."""
    store.note_run(attempt)
    if attempt.number <= request["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return struct(attempt=attempt.number)


@app.task(name="sample.poison", policy=RetryPolicy(max_attempts=2))
def poison(attempt: Attempt, request: Struct) -> None:
    """Kills whatever runs it."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="sample.fan_out", policy=QUICK)
def fan_out(attempt: Attempt, request: Struct) -> FanOut[Struct]:
    """One child for each name in `children`: the task that it runs."""
    for number, name in enumerate(request["children"]):
        attempt.accept(app.operation_tasks[str(name)], request["payload"], key=str(number))
    return FanOut(struct(children=len(request["children"])), children=len(request["children"]))


@app.task(name="sample.publish", policy=QUICK)
def publish(attempt: Attempt, request: Struct) -> None:
    store.take_effect(attempt, int(request["events"]))


@app.task(name="sample.commit_then_die", policy=QUICK)
def commit_then_die(attempt: Attempt, request: Struct) -> Struct:
    """The first attempt's process dies after the commit, before anything is published or settled."""
    store.note_run(attempt)
    store.take_effect(attempt, int(request["events"]))
    if attempt.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return struct(attempt=attempt.number)


@app.task(name="sample.plain", acks_late=True)
def plain(word: str) -> None:
    """An ordinary Celery task."""
    store.note_plain(word)
    log.info("plain.noted", word=word)


def _until_there(attempt: Attempt, path: str) -> None:
    pause = threading.Event()
    while not (path and Path(path).exists()):
        attempt.check()
        pause.wait(STEP_SECONDS)
