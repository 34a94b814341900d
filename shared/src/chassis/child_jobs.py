"""Keeps a pool of children from forgetting operations when the worker's connection closes, or the worker ends.

Celery's pool then drops whatever no child has said that it accepts: a broker delivers that again. A child that was sent
an operation runs it all the same. Its result is waited for; what no child was sent goes back to the store at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chassis.celery_requests import OperationRequest


@contextmanager
def remembered(pool: Any) -> Iterator[None]:
    """While the block flushes the pool. For pools without children there is nothing to do."""
    jobs = _unaccepted(pool)
    sent = {job: request for job, request in jobs.items() if job._write_to is not None}  # noqa: SLF001 (billiard's)
    for job in sent:
        job._accepted = True  # noqa: SLF001 (a flush leaves what is accepted, and ends the writing of it)
    try:
        yield
    finally:
        for job in sent:
            job._accepted = job._time_accepted is not None  # noqa: SLF001
        for job, request in jobs.items():
            if job not in sent or _child_is_gone(job):
                job.discard()
                request.intake.give_back(request.item.delivery)


def _unaccepted(pool: Any) -> dict[Any, OperationRequest]:
    """Of the operations that the pool was given, those that no child has accepted."""
    cache = getattr(getattr(pool, "_pool", None), "_cache", {})
    waiting = [job for job in cache.values() if not job._accepted and not job.ready()]  # noqa: SLF001
    owners = {job: getattr(job._accept_callback, "__self__", None) for job in waiting}  # noqa: SLF001
    return {job: owner for job, owner in owners.items() if isinstance(owner, OperationRequest)}


def _child_is_gone(job: Any) -> bool:
    """Whether the pool has seen the end of the child that it was sent to, which had not accepted it by then."""
    return not job._accepted and not job.ready() and bool(job._write_to.dead)  # noqa: SLF001
