"""Tasks that behave as an experiment needs it."""

import os
import signal
from datetime import timedelta

from chassis.attempts import Attempt
from chassis.errors import TransientError
from chassis.logging import get_logger
from chassis.retries import RetryPolicy

from chaos_service import effects
from chaos_service.app import app
from chaos_service.contract import Work

log = get_logger(__name__)

QUICK = RetryPolicy(max_attempts=3, min_backoff=timedelta(milliseconds=20), max_backoff=timedelta(milliseconds=50))
LONG = timedelta(minutes=10)


@app.task(name="chaos.write_effect", policy=QUICK)
def write_effect(attempt: Attempt, request: Work) -> None:
    """Its two lines in the journal are all that it does."""
    effects.note(attempt, "began")
    effects.note(attempt, "done")


@app.task(name="chaos.bulk_write_effect", policy=QUICK)
def bulk_write_effect(attempt: Attempt, request: Work) -> None:
    """The same on the queue for bulk."""
    effects.note(attempt, "began")
    effects.note(attempt, "done")


@app.task(name="chaos.hold", policy=QUICK, timeout=LONG)
def hold(attempt: Attempt, request: Work) -> None:
    """Runs until the marshal lets it go."""
    effects.note(attempt, "began")
    effects.wait_for_the_marshal(attempt)
    effects.note(attempt, "done")


@app.task(name="chaos.ignore_cancel", policy=QUICK, timeout=timedelta(seconds=2))
def ignore_cancel(attempt: Attempt, request: Work) -> None:
    """As `hold`, and it notices neither a cancel nor its deadline."""
    effects.note(attempt, "began")
    effects.wait_for_the_marshal(attempt, heedless=True)
    effects.note(attempt, "done")


@app.task(name="chaos.retry_until", policy=QUICK)
def retry_until(attempt: Attempt, request: Work) -> None:
    """Asks for another attempt, `delay_ms` later, in its first `times`."""
    effects.note(attempt, "began")
    if attempt.number <= request.times:
        delay = timedelta(milliseconds=request.delay_ms)
        raise TransientError(f"attempt {attempt.number} fails", reason="NOT_YET", retry_after=delay)
    effects.note(attempt, "done")


@app.task(name="chaos.kill_child", policy=QUICK)
def kill_child(attempt: Attempt, request: Work) -> None:
    """Kills the process that it runs in, in its first `times` attempts."""
    effects.note(attempt, "began")
    if attempt.number <= request.times:
        os.kill(os.getpid(), signal.SIGKILL)
    effects.note(attempt, "done")


@app.task(name="chaos.kill_worker", policy=QUICK)
def kill_worker(attempt: Attempt, request: Work) -> None:
    """Kills the worker's main process, in its first `times` attempts, and goes with it."""
    effects.note(attempt, "began")
    if attempt.number <= request.times:
        os.kill(int(app.worker_name.rpartition(":")[2]), signal.SIGKILL)
        signal.pause()
    effects.note(attempt, "done")


if effects.settings().newer:

    @app.task(name="chaos.newer", policy=QUICK)
    def newer(attempt: Attempt, request: Work) -> None:
        """A task of the next version."""
        effects.note(attempt, "began")
        effects.note(attempt, "done")

    @app.task(name="chaos.plain_of_the_next_version", acks_late=True)
    def plain_of_the_next_version() -> None:
        """An ordinary Celery task."""
        log.info("plain.ran")
