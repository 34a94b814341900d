"""What turns a request into an operation to be accepted: options checked, ids given, trace continued."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.errors import Violations
from chassis.retries import RetryPolicy
from chassis.store_calls import Acceptance, id_of
from chassis.telemetry import SpanContext, now_us

MAX_LABELS: Final = 32
MAX_LABEL_VALUE: Final = 255
MAX_REQUEST_ID: Final = 255
MAX_ATTEMPTS: Final = 100
MAX_SCHEDULE_AHEAD: Final = timedelta(days=365)
KEEP_SUCCESS: Final = timedelta(days=7)
KEEP_FAILURE: Final = timedelta(days=30)
#: timestamp.proto: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
FIRST_SECOND: Final = -62_135_596_800
LAST_SECOND: Final = 253_402_300_799
NANOS: Final = 1_000_000_000
#: Version 7 and variant 2, and the bits beside them.
_UUID_MARKS: Final = 0x7 << 76 | 0x2 << 62
_UUID_RANDOM: Final = ~(0xF << 76 | 0x3 << 62)
_NO_OPTIONS: Final = ops.SubmitOptions()
LABEL_KEY: Final = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


class Acceptable(Protocol):
    """What acceptance needs to know of a task."""

    name: str
    policy: RetryPolicy
    queue_name: str
    default_priority: int
    retention: timedelta | None


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for one operation of this service."""

    task: Acceptable
    request: Message
    #: Empty: the request's own field `request_id`, when it has one.
    request_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Parent of the `send` span. Empty: the RPC that is being served, or a trace of its own.
    traceparent: str = ""
    links: Sequence[str] = ()
    #: Name of the operation that fans out to this one.
    parent: str = ""
    #: Unspecified: the request's option, then the task's default.
    priority: int = ops.PRIORITY_UNSPECIFIED
    #: What its effects are keyed by. Empty: the operation's own id.
    effect_id: str = ""
    #: Id of the operation at the root of the fan-out. Empty: the parent's id, or the operation's own.
    root: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a submission comes from: the scope of its request_id, and its place in a trace."""

    principal: str
    #: The accepting method, or the name of what accepts instead of an RPC.
    method: str
    #: Parent of the `send` span; None: a trace of its own.
    parent: SpanContext | None = None
    #: Set when the engine is to project the accepting RPC's span.
    server: store_pb2.ServerSpan | None = None


def new_operation_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    digits = f"{value & _UUID_RANDOM | _UUID_MARKS:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def acceptance(submission: Submission, provenance: Provenance) -> Acceptance:
    """Raises InvalidArgument with every violation of the submit options at once."""
    options = options_of(submission.request)
    request_id = submission.request_id or str(getattr(submission.request, "request_id", ""))
    labels = {**options.labels, **submission.labels}
    check_options(options, labels, request_id)
    task = submission.task
    operation_id = new_operation_id()
    record = store_pb2.OperationRecord(
        id=operation_id,
        task=task.name,
        request_id=request_id,
        labels=labels,
        parent=submission.parent,
        root=submission.root or id_of(submission.parent) or operation_id,
        effect_id=submission.effect_id or operation_id,
        trace=trace_of(provenance, traceparent=submission.traceparent, links=submission.links),
        expire_time_us=timestamp_us(options, "expire_time"),
        principal=provenance.principal,
    )
    record.request.Pack(payload_of(submission.request))
    return Acceptance(
        record=record,
        queue=task.queue_name,
        priority=submission.priority or options.priority or task.default_priority,
        max_attempts=options.max_attempts or task.policy.max_attempts,
        keep_success=task.retention or KEEP_SUCCESS,
        keep_failure=max(task.retention or KEEP_FAILURE, KEEP_SUCCESS),
        due_us=timestamp_us(options, "schedule_time"),
        idempotency_scope=f"{provenance.principal}\0{provenance.method}\0{request_id}" if request_id else "",
    )


def options_of(request: Message) -> ops.SubmitOptions:
    """The request's submit options; the empty ones where it has none."""
    options = getattr(request, "options", None)
    return options if isinstance(options, ops.SubmitOptions) else ops.SubmitOptions()


def payload_of(request: Message) -> Message:
    """A copy without what concerns acceptance alone: request_id and options."""
    fields = request.DESCRIPTOR.fields_by_name
    names = [name for name in ("request_id", "options") if name in fields]
    if not names:
        return request
    payload = type(request)()
    payload.CopyFrom(request)
    for name in names:
        payload.ClearField(name)
    return payload


def check_options(options: ops.SubmitOptions, labels: Mapping[str, str], request_id: str) -> None:
    """Raise InvalidArgument with every violation."""
    if not labels and options == _NO_OPTIONS and len(request_id) <= MAX_REQUEST_ID:
        return
    found = Violations()
    found.require(len(request_id) <= MAX_REQUEST_ID, "request_id", f"has more than {MAX_REQUEST_ID} characters")
    found.require(options.priority in ops.Priority.values(), "options.priority", "is not a known priority")
    found.require(
        0 <= options.max_attempts <= MAX_ATTEMPTS,
        "options.max_attempts",
        f"must be 1 to {MAX_ATTEMPTS}, or 0 for the default",
    )
    check_times(options, now_us(), found)
    check_labels(labels, found)
    found.raise_if_any()


def check_times(options: ops.SubmitOptions, now: int, found: Violations) -> None:
    """Add what is wrong with schedule_time and expire_time; nothing is compared with what is no instant."""
    sound = [check_instant(options, name, found) for name in ("schedule_time", "expire_time")]
    if not all(sound):
        return
    due, expire = timestamp_us(options, "schedule_time"), timestamp_us(options, "expire_time")
    limit = now + MAX_SCHEDULE_AHEAD // timedelta(microseconds=1)
    found.require(due <= limit, "options.schedule_time", f"is more than {MAX_SCHEDULE_AHEAD.days} days ahead")
    if options.HasField("expire_time"):
        found.require(expire > now, "options.expire_time", "must lie in the future")
        found.require(expire > due, "options.expire_time", "must be after schedule_time")


def check_instant(options: ops.SubmitOptions, name: str, found: Violations) -> bool:
    """Whether the Timestamp is within the bounds that timestamp.proto sets."""
    stamp: Timestamp = getattr(options, name)
    sound = FIRST_SECOND <= stamp.seconds <= LAST_SECOND and 0 <= stamp.nanos < NANOS
    return found.require(sound, f"options.{name}", "must lie in the years 1 to 9999, with nanos from 0 to 999,999,999")


def check_labels(labels: Mapping[str, str], found: Violations) -> None:
    """Add a violation for every label that is out of bounds."""
    found.require(len(labels) <= MAX_LABELS, "options.labels", f"has more than {MAX_LABELS} entries")
    for key, value in labels.items():
        found.require(LABEL_KEY.fullmatch(key), f"options.labels[{key!r}]", f"the key must match {LABEL_KEY.pattern}")
        found.require(
            len(value) <= MAX_LABEL_VALUE,
            f"options.labels[{key!r}]",
            f"the value has more than {MAX_LABEL_VALUE} characters",
        )


def timestamp_us(message: Any, name: str) -> int:
    """A Timestamp field as Unix microseconds; 0 when it is absent."""
    if not message.HasField(name):
        return 0
    stamp: Timestamp = getattr(message, name)
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def trace_of(provenance: Provenance, *, traceparent: str = "", links: Sequence[str] = ()) -> store_pb2.TraceContext:
    """The place of the `send` span: below `traceparent` where one is given, else below the provenance's parent."""
    given = SpanContext.parse(traceparent) if traceparent else None
    parent = given or provenance.parent
    send = parent.child() if parent else SpanContext.new_root()
    trace = store_pb2.TraceContext(
        trace_id=send.trace_id, send_span_id=send.span_id, parent_span_id=parent.span_id if parent else b""
    )
    if provenance.server is not None and given is None:
        trace.server.CopyFrom(provenance.server)
    for link in filter(None, map(SpanContext.parse, links)):
        trace.links.add(trace_id=link.trace_id, span_id=link.span_id)
    return trace
