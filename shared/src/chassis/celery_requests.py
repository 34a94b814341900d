"""How Celery's worker handles a delivery: through its own strategy and request classes, with the store as the truth.

Celery's part is to hand the delivery to a slot of its pool and to keep its books for `inspect` and for events. How the
attempt ended comes back as a Settlement; one thread of the worker's main process settles it, whatever the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery.exceptions import TaskRevokedError
from celery.worker import state as celery_state
from celery.worker.request import Request as CeleryRequest
from redis.exceptions import RedisError
from waybill.operations.v1 import operations_pb2 as ops

from chassis import store_calls
from chassis.attempts import Ended, run_attempt
from chassis.deliveries import WorkItem
from chassis.intake import Intake, intakes
from chassis.logging import get_logger
from chassis.store_calls import Settlement

if TYPE_CHECKING:
    from chassis.worker import OperationTask, ServiceApp

log = get_logger(__name__)

STRATEGY: Final = "chassis.celery_requests:strategy"

#: The app of each service in this process, by which a pool's child finds a task.
apps: dict[str, ServiceApp] = {}


def run_delivery(item: WorkItem) -> Ended | None:
    """What a slot of the pool does, in the worker's own process or in a child. None: there was nothing to run."""
    service = item.task.partition(".")[0]
    task, intake = apps[service].operation_tasks[item.task], intakes.get(service)
    if intake is not None and not intake.start(item.delivery):
        return None
    about = {"sender": task, "task_id": item.operation_id, "task": task, "args": (), "kwargs": {}}
    try:
        signals.task_prerun.send(**about)
        ended = run_attempt(task, item)
        signals.task_postrun.send(**about, retval=None, state=_celery_state(ended))
    except Exception:  # nobody above would hear of it; without a settlement the lease runs out
        log.exception("delivery.broken", operation_id=item.operation_id)
        return None
    return ended


class OperationRequest(CeleryRequest):
    """A delivery in Celery's books."""

    # What Celery's own request reads from a message's headers; an operation has none of it.
    _root_id = _parent_id = _eta = _expires = None
    _content_type = _content_encoding = None
    _argsrepr, _kwargsrepr = "", "{}"
    _decoded = _utc = _ignore_result = True
    _args: tuple[Any, ...] = ()
    # What `inspect` sends has to be JSON.
    _kwargs: ClassVar[dict[str, Any]] = {}

    def __init__(self, message: Any, *, task: OperationTask, app: ServiceApp, hostname: str, eventer: Any) -> None:
        item: WorkItem = message.body
        self.item = item
        self.intake: Intake = intakes[app.service]
        self.id = item.operation_id
        setattr(self, "name", item.task)  # noqa: B010 (the stubs take it for read-only)
        self._type = item.task
        self._message, self._body, self._task, self._app = message, item, task, app
        self._hostname, self._eventer = hostname, eventer
        self._request_dict = message.headers
        self._delivery_info = message.delivery_info

    def execute_using_pool(self, pool: Any, **_: Any) -> Any:
        """Hand it to a slot. Raises TaskRevokedError, for which Celery takes the slot back."""
        if self.revoked() or (self.intake.forks and not self.intake.start(self.item.delivery)):
            raise TaskRevokedError(self.id)
        return pool.apply_async(
            run_delivery,
            args=(self.item,),
            accept_callback=self.on_accepted,
            callback=self.on_success,
            error_callback=self.on_failure,
            correlation_id=self.id,
        )

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """A slot has taken it."""
        super().on_accepted(pid, time_accepted)
        if self.intake.forks:
            self.intake.runs_in(self.item.delivery, child=pid)

    def on_success(self, failed__retval__runtime: Any, **_: Any) -> None:
        """The pool has run it, whatever became of the attempt."""
        ended: Ended | ExceptionInfo | None = failed__retval__runtime
        if isinstance(ended, ExceptionInfo):  # a pool of threads answers so for what is no Exception
            self.on_failure(ended)
            return
        celery_state.task_ready(self, successful=True)
        self.acknowledged = True
        self.intake.ended(self.item.delivery, ended)
        self._tell_of(ended)

    def on_failure(self, exc_info: Any, *_: Any, **__: Any) -> None:
        """The pool's child died."""
        celery_state.task_ready(self)
        self.acknowledged = True
        self.intake.lost(self.item.delivery)
        self.send_event("task-failed", exception=type(exc_info.exception).__name__, traceback="")

    def revoked(self) -> bool:
        """Whether Celery's `revoke` named it; it is then cancelled instead of discarded."""
        if self.id not in celery_state.revoked:
            return False
        self._cancel()
        return True

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Celery's `revoke --terminate` and `terminate`: a cancellation, which ends what does not heed it by force."""
        self._cancel()

    def _cancel(self) -> None:
        try:
            self.intake.store.run(store_calls.cancel([self.id]))
        except RedisError as error:
            log.warning("revoke.unheard", operation_id=self.id, error=str(error))
            return
        self.drop_unless_started()

    def drop_unless_started(self) -> None:
        """It is cancelled in the store; a slot that has not taken it yet need not."""
        if not self.time_start:
            cancelled = Settlement(self.id, self.item.token, ops.ATTEMPT_OUTCOME_CANCELLED)
            self.intake.ended(self.item.delivery, Ended(cancelled, 0.0) if self.item.begun else None)
            celery_state.task_ready(self)

    def _tell_of(self, ended: Ended | None) -> None:
        """Celery's event of how it ended, where events are on. A drain's return is no end."""
        if ended is None or not tells(self._eventer):
            return
        settlement = ended.settlement
        event = _EVENTS.get(settlement.outcome)
        if event == "task-succeeded":
            self.send_event(event, result="", runtime=ended.seconds)
        elif event == "task-revoked":
            self.send_event(event, terminated=True, signum=None, expired=False)
        elif event is not None:
            said = settlement.error.message if settlement.error else ""
            self.send_event(event, exception=said, traceback="")


_EVENTS: Final[Mapping[int, str]] = {
    ops.ATTEMPT_OUTCOME_SUCCEEDED: "task-succeeded",
    ops.ATTEMPT_OUTCOME_FANNED_OUT: "task-succeeded",
    ops.ATTEMPT_OUTCOME_RETRIED: "task-retried",
    ops.ATTEMPT_OUTCOME_FAILED: "task-failed",
    ops.ATTEMPT_OUTCOME_CANCELLED: "task-revoked",
}


def tells(eventer: Any) -> bool:
    """Whether events of tasks are on; remote control switches them while the worker runs."""
    return eventer is not None and eventer.enabled and (not eventer.groups or "task" in eventer.groups)


def strategy(task: OperationTask, app: ServiceApp, consumer: Any, **_: Any) -> Callable[..., None]:
    """What Celery's consumer does with each delivery of a task."""
    eventer = consumer.event_dispatcher

    def handle(message: Any, _body: Any, _ack: Any, _reject: Any, callbacks: Sequence[Callable[[Any], None]]) -> None:
        request = OperationRequest(message, task=task, app=app, hostname=consumer.hostname, eventer=eventer)
        if request.revoked():
            return
        signals.task_received.send(sender=consumer, request=request)
        if tells(eventer):
            retries = request.item.number - 1
            eventer.send("task-received", uuid=request.id, name=request.name, args="", kwargs="{}", retries=retries)
        limit = None if consumer.disable_rate_limits else consumer.task_buckets[task.name]
        if limit is not None:
            consumer._limit_task(request, limit, 1)  # noqa: SLF001 (as Celery's own strategy does)
            return
        celery_state.task_reserved(request)
        for callback in callbacks or ():
            callback(request)
        consumer.on_task_request(request)

    return handle


def _celery_state(ended: Ended | None) -> str:
    if ended is None:
        return states.REVOKED
    if ended.settlement.error is None:
        return states.SUCCESS
    return states.RETRY if ended.settlement.outcome == ops.ATTEMPT_OUTCOME_RETRIED else states.FAILURE
