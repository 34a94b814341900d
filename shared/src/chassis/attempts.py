"""One attempt: what a task is given, and how the engine runs and settles it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast
from uuid import UUID, uuid5

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from redis.exceptions import RedisError
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis import store_calls
from chassis.acceptance import Acceptable, Provenance, Submission, acceptance
from chassis.deliveries import WorkItem
from chassis.descriptions import operation_name
from chassis.errors import Cancelled, DeadlineExceeded, PermanentError
from chassis.logging import bound, get_logger
from chassis.redaction import guard, guarding, scrub, scrub_status
from chassis.retries import Failure, Retry, decide
from chassis.statuses import reason_of, task_failure
from chassis.store_calls import AttemptError, Begun, Call, Gone, Settlement
from chassis.telemetry import SpanContext, use_span

if TYPE_CHECKING:
    from chassis.worker import OperationTask, ServiceApp

M = TypeVar("M", bound=Message)

_CHILDREN: Final = UUID("0d1b8a54-3f0e-5f0a-9d39-5a5d4a5f5c11")

log = get_logger(__name__)

BEGIN_PAUSE_SECONDS: Final = 0.1
#: Least time between two reports of one attempt that say the same percentage.
PROGRESS_INTERVAL_SECONDS: Final = 0.2
#: How often `check` asks the store where no renewal thread runs in this process.
CHECK_INTERVAL_SECONDS: Final = 1.0
MAX_ERROR_MESSAGE: Final = 300


class FencedOff(Exception):
    """Another attempt of this operation has begun; this one's results are refused."""


class DrainRequested(Exception):
    """The worker drains; the attempt is given back."""


@dataclass(frozen=True, slots=True)
class FanOut(Generic[M]):
    """Returned by a task that accepted children: the operation succeeds with `response` when all of them have ended.

    `children` is for the reader of the task; the store counts those that it accepted, in earlier attempts too.
    """

    response: M
    children: int


class Attempt:
    """What a task knows of the attempt that it is, and what it may do as it."""

    def __init__(
        self,
        *,
        app: ServiceApp,
        record: store_pb2.OperationRecord,
        number: int,
        max_attempts: int,
        token: str,
        span: SpanContext,
        timeout: timedelta,
    ) -> None:
        self.app = app
        self.operation_id = record.id
        self.operation = operation_name(app.service, record.id)
        self.effect_id = record.effect_id
        self.number = number
        self.max_attempts = max_attempts
        self.labels: Mapping[str, str] = dict(record.labels)
        self.parent = record.parent
        self.request_id = record.request_id
        self.deadline = datetime.now(UTC) + timeout
        self.traceparent = span.traceparent
        self.token = token
        self.span = span
        self._root = record.root
        self._stop = threading.Event()
        self._stop_error: Exception | None = None
        self._reported = (-1, "")
        self._asked_at = time.monotonic()

    def progress(self, percent: int, message: str = "") -> None:
        """Report how far the work is: 0 to 100, and what is being done. Raises as `check` does."""
        percent = min(100, max(0, percent))
        same_percent, since = percent == self._reported[0], time.monotonic() - self._asked_at
        if (percent, message) == self._reported or (same_percent and since < PROGRESS_INTERVAL_SECONDS):
            return self.check()
        self._raise_if_over()
        report = store_calls.progress(self.operation_id, self.token, percent, scrub(message)[:MAX_ERROR_MESSAGE])
        if self._asks(report):
            self._reported = (percent, message)
        return self._raise_if_over()

    def check(self) -> None:
        """Raise Cancelled when a client asked for it, DeadlineExceeded past the deadline, FencedOff when taken over."""
        self._raise_if_over()
        if time.monotonic() - self._asked_at >= CHECK_INTERVAL_SECONDS:
            self._asks(store_calls.ask(self.operation_id, self.token))
            self._raise_if_over()

    def accept(
        self,
        task: Acceptable,
        request: Message,
        *,
        key: str,
        labels: Mapping[str, str] | None = None,
        priority: int = ops.PRIORITY_UNSPECIFIED,
    ) -> str:
        """Accept a child operation of this service; its name. Another attempt with the same key gets the same child."""
        submission = Submission(
            task,
            request,
            request_id=key,
            labels=labels or {},
            parent=self.operation,
            priority=priority,
            effect_id=child_effect_id(self.effect_id, key),
            root=self._root,
        )
        provenance = Provenance("", f"child/{self.operation_id}", self.span)
        (verdict,) = self.app.store.run(store_calls.accept([acceptance(submission, provenance)]))
        if verdict.verdict == "orphan":
            raise Cancelled("the operation runs no more", reason="PARENT_ENDED")
        if verdict.verdict == "reused":
            raise PermanentError(f"key {key!r} names two different children", reason="CHILD_KEY_REUSED")
        return operation_name(self.app.service, verdict.operation_id)

    def stop(self, error: Exception) -> None:
        """Make the next `check` raise `error`. Called by the renewal thread."""
        self._stop_error = error
        self._stop.set()

    @property
    def stopped(self) -> Exception | None:
        return self._stop_error

    def _raise_if_over(self) -> None:
        if self._stop.is_set() and self._stop_error is not None:
            raise self._stop_error
        if datetime.now(UTC) >= self.deadline:
            raise DeadlineExceeded("the attempt has used up its timeout", reason="ATTEMPT_TIMEOUT")

    def _asks(self, call: Call[int]) -> bool:
        """Hear from the store whether to go on; False when it is out of reach, which stops nobody."""
        self._asked_at = time.monotonic()
        try:
            answer = self.app.store.run(call)
        except RedisError as error:
            log.warning("attempt.unheard", error=str(error))
            return False
        if answer == store_calls.LOST:
            self.stop(FencedOff())
        elif answer == store_calls.CANCEL_REQUESTED:
            self.stop(Cancelled("a client asked for cancellation"))
        return True


def child_effect_id(effect_id: str, key: str) -> str:
    """What a child's effects are keyed by: the same in an unedited replay of its parent."""
    return str(uuid5(_CHILDREN, f"{effect_id}/{key}"))


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt is to be settled, and how long its task ran."""

    settlement: Settlement
    seconds: float


def run_attempt(task: OperationTask, item: WorkItem) -> Ended | None:
    """Begin, run, decide; how the attempt is to be settled. The one place that runs a task for an operation.

    None when there was nothing to run, or the store cannot be asked (the lease runs out then).
    """
    app, record = task.service_app, item.parsed()
    with bound(operation=operation_name(app.service, record.id), task=task.name, trace_id=record.trace.trace_id.hex()):
        number = begin(app, item)
        if number is None:
            return None
        attempt = Attempt(
            app=app,
            record=record,
            number=number,
            max_attempts=item.max_attempts,
            token=item.token,
            span=SpanContext(record.trace.trace_id, item.span_id),
            timeout=task.timeout,
        )
        began = time.monotonic()
        with app.running(item, attempt), use_span(attempt.span):
            settlement = conclude(task, attempt, record)
        return Ended(settlement, time.monotonic() - began)


def begin(app: ServiceApp, item: WorkItem) -> int | None:
    """Count the attempt, unless the fetch has; its number. None when the store cannot be asked for as long as a lease.

    A begin whose answer was lost has counted: it is repeated with its token, or the attempt would be lost unrun.
    """
    if item.begun:
        return item.number
    call = store_calls.begin(
        item.operation_id,
        item.delivery,
        worker=app.worker_name,
        token=item.token,
        span=item.span_id,
        lease=app.lease,
    )
    begun = _answered(app, call)
    if isinstance(begun, Begun):
        return begun.attempt
    if begun is not None:
        log.info("attempt.gone", why=begun.why)
    return None


def _answered(app: ServiceApp, call: Call[Begun | Gone]) -> Begun | Gone | None:
    patience, pause = time.monotonic() + app.lease.total_seconds(), threading.Event()
    while True:
        try:
            return app.store.run(call)
        except RedisError as error:
            if time.monotonic() > patience:
                log.warning("attempt.not_begun", error=str(error))
                return None
            pause.wait(BEGIN_PAUSE_SECONDS)


def conclude(task: OperationTask, attempt: Attempt, record: store_pb2.OperationRecord) -> Settlement:
    """Run the task and say how the attempt ended, without what its payload's contract marks as sensitive."""
    with guarding():
        return _concluded(task, attempt, record)


def _concluded(task: OperationTask, attempt: Attempt, record: store_pb2.OperationRecord) -> Settlement:
    try:
        payload = payload_of(task, record)
        guard(payload)
        answer = task.run(attempt, payload)
        attempt.app.publish_owed(attempt.operation_id)
        return success(attempt, answer)
    except Cancelled as error:
        if attempt.stopped is None:
            return failure(task, attempt, error)
        return Settlement(attempt.operation_id, attempt.token, ops.ATTEMPT_OUTCOME_CANCELLED)
    except FencedOff:
        log.warning("attempt.taken_over", attempt=attempt.number)
        return Settlement(attempt.operation_id, attempt.token, ops.ATTEMPT_OUTCOME_LOST)
    except DrainRequested:
        return Settlement(attempt.operation_id, attempt.token, ops.ATTEMPT_OUTCOME_RETURNED)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a task raises is an outcome of the attempt)
        return failure(task, attempt, error)


def payload_of(task: OperationTask, record: store_pb2.OperationRecord) -> Message:
    """Raises PermanentError when the payload is of another type than the task's."""
    payload = task.request_type()
    if record.request.Unpack(payload):
        return payload
    raise PermanentError(
        f"the payload is a {record.request.type_url}, not a {payload.DESCRIPTOR.full_name}", reason="PAYLOAD_TYPE"
    )


def success(attempt: Attempt, answer: Message | FanOut[Any] | None) -> Settlement:
    """The settlement of an attempt whose task returned. Raises PermanentError for a result above the limit."""
    response, outcome = answer, ops.ATTEMPT_OUTCOME_SUCCEEDED
    if isinstance(answer, FanOut):
        response, outcome = answer.response, ops.ATTEMPT_OUTCOME_FANNED_OUT
    packed = AnyMessage()
    packed.Pack(cast("Message", response) if response is not None else Empty())
    result = packed.SerializeToString()
    limit = attempt.app.waybill.max_result_bytes
    if len(result) > limit:
        raise PermanentError(
            f"the result has {len(result)} bytes, more than the limit of {limit}", reason="RESULT_TOO_LARGE"
        )
    return Settlement(attempt.operation_id, attempt.token, outcome, result=result)


class AttemptFacts(Protocol):
    """What deciding needs of an attempt: an Attempt, or a WorkItem in the hands of who settles in its place."""

    @property
    def operation_id(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def max_attempts(self) -> int: ...


def failure(task: OperationTask, attempt: AttemptFacts, error: BaseException) -> Settlement:
    """Another attempt, or the end: `retries.decide` on what the error says of itself."""
    known = task_failure(error, task.service_app.service)
    scrub_status(known.status)
    transient = known.transient or isinstance(error, DeadlineExceeded)
    facts = Failure(transient, reason_of(known.status), known.retry_after)
    decision = decide(attempt.number, attempt.max_attempts, task.policy, facts)
    attempt_error = AttemptError(
        known.status.code, known.status.message[:MAX_ERROR_MESSAGE], facts.reason, known.status.SerializeToString()
    )
    if isinstance(decision, Retry):
        log.warning(
            "attempt.retried",
            attempt=attempt.number,
            retry_in=decision.delay.total_seconds(),
            reason=facts.reason,
            error=str(error),
        )
        return Settlement(
            attempt.operation_id, attempt.token, ops.ATTEMPT_OUTCOME_RETRIED, delay=decision.delay, error=attempt_error
        )
    log.error("attempt.failed", attempt=attempt.number, reason=facts.reason, error=str(error), exc_info=error)
    return Settlement(attempt.operation_id, attempt.token, ops.ATTEMPT_OUTCOME_FAILED, error=attempt_error)
