"""Celery's consumer with events on demand, and the remote control commands that mean something else for operations.

Stock Celery sends heartbeats whether or not anybody listens. Here a worker publishes nothing until it was started
with `-E` or told `enable_events`, which Flower says every few seconds.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from celery.utils.functional import maybe_list
from celery.worker import consumer, control, state
from celery.worker.consumer.events import Events
from redis.exceptions import RedisError

from chassis import store_calls
from chassis.celery_requests import OperationRequest
from chassis.child_jobs import remembered
from chassis.intake import intakes
from chassis.logging import get_logger
from chassis.worker import ServiceApp

log = get_logger(__name__)

#: Pauses between two tries to reach Redis, in seconds.
RECONNECTION: Final = {"interval_start": 0.1, "interval_step": 0.2, "interval_max": 1.0}


class Consumer(consumer.Consumer):
    """Sends no events until somebody asks for them; afterwards also over reconnects."""

    event_dispatcher: Any
    pool: Any
    steps: list[Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for step in self._event_steps():
            step.send_events = step.groups is None  # as `-E` leaves it

    def tell(self) -> None:
        """Begin with events: that the worker is online, then heartbeats and whatever group is switched on."""
        for step in self._event_steps():
            step.send_events = True
        if not self.event_dispatcher.enabled:
            self.event_dispatcher.enable()

    def ensure_connected(self, conn: Any) -> Any:
        """As Celery does it, but back within a second of Redis.

        Its own pauses grow to 30 s: longer than a lease, so that what a fetch had begun whose answer was lost would be
        taken for a dead worker's.
        """
        conn.ensure_connection = partial(conn.ensure_connection, **RECONNECTION)
        return super().ensure_connected(conn)

    def on_close(self) -> None:
        """The connection is lost, or the worker ends."""
        with remembered(self.pool):
            super().on_close()

    def _event_steps(self) -> list[Any]:
        return [step for step in self.steps if isinstance(step, Events)]


_STOCK: Final[dict[str, Any]] = dict(control.Panel.data)


def _enable_events(worker: Any, **arguments: Any) -> Any:
    """Tell worker(s) to send events of the worker and of its tasks."""
    if isinstance(worker.consumer, Consumer) and worker.consumer.event_dispatcher is not None:
        worker.consumer.tell()
    return _STOCK["enable_events"](worker, **arguments)


def _revoke(worker: Any, task_id: Any, **arguments: Any) -> Any:
    """Cancel operations by id or name; revoke ordinary tasks by id.

    What runs is asked to end and is ended by force when it does not, with `--terminate` and without.
    """
    app: Any = worker.app
    if not isinstance(app, ServiceApp):
        return _STOCK["revoke"](worker, task_id, **arguments)
    named = [store_calls.id_of(each) for each in maybe_list(task_id) or ()]
    try:
        answers = app.store.run(store_calls.cancel(named))
    except RedisError as error:
        log.warning("revoke.unheard", count=len(named), error=str(error))
        return {"error": f"the store is out of reach: {error}"}
    verdicts = {id_: answer.verdict for id_, answer in zip(named, answers, strict=True)}
    for id_ in verdicts:
        request = state.requests.get(id_)
        if isinstance(request, OperationRequest):
            request.drop_unless_started()
    plain = [id_ for id_, verdict in verdicts.items() if verdict == "unknown"]
    said = [f"{id_} {verdict}" for id_, verdict in verdicts.items() if verdict != "unknown"]
    if plain:
        said.append(str(next(iter(_STOCK["revoke"](worker, plain, **arguments).values()))))
    return {"ok": ", ".join(said)}


def _terminate(worker: Any, signal: str, task_id: Any, **_: Any) -> Any:
    """Cancel operations by id or name; terminate ordinary tasks by id."""
    return _revoke(worker, task_id, terminate=True, signal=signal)


def _rate_limit(worker: Any, task_name: str, rate_limit: Any, **arguments: Any) -> Any:
    """Tell worker(s) to modify the rate limit for a task by type.

    What the limit before held back returns to its queue: Celery would keep it to that limit.
    """
    bucket = worker.consumer.task_buckets.get(task_name)
    answer = _STOCK["rate_limit"](worker, task_name, rate_limit, **arguments)
    app: Any = worker.app
    if isinstance(app, ServiceApp) and task_name in app.operation_tasks and bucket is not None:
        bucket.clear_pending()
        intakes[app.service].give_back_all()
    return answer


@control.control_command(args=[("concurrency", int)], signature="<N>")
def set_concurrency(worker: Any, concurrency: int, **_: Any) -> Any:
    """Tell worker(s) how many attempts to run at a time. What runs goes on to its end."""
    return _resize(worker, concurrency)


def _pool_grow(worker: Any, n: int = 1, **_: Any) -> Any:
    """Grow pool by n processes/threads."""
    return _resize(worker, worker.consumer.pool.num_processes + n)


def _pool_shrink(worker: Any, n: int = 1, **_: Any) -> Any:
    """Shrink pool by n processes/threads."""
    return _resize(worker, worker.consumer.pool.num_processes - n)


def _resize(worker: Any, concurrency: int) -> Any:
    consumer = worker.consumer
    change = concurrency - consumer.pool.num_processes
    try:
        if change > 0:
            consumer.pool.grow(change)
        elif change < 0:
            consumer.pool.shrink(-change)
    except (AttributeError, ValueError) as error:
        return {"error": f"the pool cannot have {concurrency}: {error}"}
    consumer._update_prefetch_count(change)  # noqa: SLF001 (as Celery's own commands do)
    log.info("worker.resized", concurrency=concurrency, before=concurrency - change)
    if isinstance(worker.app, ServiceApp):
        try:
            intakes[worker.app.service].announce()
        except RedisError as error:
            log.warning("worker.heartbeat_waits", error=str(error))
    return {"ok": f"the pool has {concurrency}"}


control.Panel.data.update(pool_grow=_pool_grow, pool_shrink=_pool_shrink)
control.Panel.data.update(enable_events=_enable_events, revoke=_revoke, terminate=_terminate, rate_limit=_rate_limit)
