"""The engine's spans, as a projection of the event log.

Accept and begin fix the ids; what is written to the log when an attempt ends is all that its spans need. So spans of
killed attempts are here too, and a span that is projected twice has the same ids both times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.descriptions import operation_name, state_name
from chassis.event_log import Entry
from chassis.telemetry import CLIENT, CONSUMER, PRODUCER, SERVER, Attribute, Span, SpanContext

#: Verbs that tell of an attempt's end.
ATTEMPT_ENDED: Final = frozenset(
    {b"succeeded", b"failed", b"cancelled", b"retried", b"lost", b"returned", b"fanned_out"}
)
#: Verbs that tell of an operation's end.
OPERATION_ENDED: Final = frozenset({b"succeeded", b"failed", b"cancelled", b"expired"})


def spans_of(service: str, entry: Entry) -> Iterator[Span]:
    """The spans that an entry of the log completes."""
    if entry.verb == b"accepted":
        yield from acceptance_spans(service, entry)
    elif entry.verb in ATTEMPT_ENDED and entry.fields.get(b"out"):
        yield from attempt_spans(service, entry)
    elif entry.verb in OPERATION_ENDED:
        yield settle_without_attempt(service, entry)
    elif entry.published is not None:
        yield from publish_span(entry.published, entry.time_us)


def acceptance_spans(service: str, entry: Entry) -> Iterator[Span]:
    """The accepting RPC, where the record carries it, and the `send`."""
    trace = store_pb2.TraceContext.FromString(entry.fields[b"tc"])
    accepted_us = int(entry.fields[b"ct"])
    started_us = accepted_us
    if trace.HasField("server"):
        package_and_service, _, method = trace.server.method.partition("/")
        started_us = min(trace.server.start_time_us, accepted_us)
        yield Span(
            name=trace.server.method,
            kind=SERVER,
            context=SpanContext(trace.trace_id, trace.parent_span_id),
            parent_span_id=trace.server.parent_span_id,
            start_us=started_us,
            end_us=accepted_us,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": package_and_service,
                "rpc.method": method,
                "rpc.grpc.status_code": 0,
                "waybill.operation": operation_name(service, entry.operation_id),
            },
        )
    yield Span(
        name=f"send {queue_of(entry)}",
        kind=PRODUCER,
        context=SpanContext(trace.trace_id, trace.send_span_id),
        parent_span_id=trace.parent_span_id,
        start_us=started_us,
        end_us=accepted_us,
        attributes=attributes_of(service, entry, "send", "send"),
        links=tuple(SpanContext(link.trace_id, link.span_id) for link in trace.links),
    )


def attempt_spans(service: str, entry: Entry) -> Iterator[Span]:
    """`process`, a sibling of the other attempts, and its `settle`."""
    fields = entry.fields
    trace_id, send_span_id = place_of(entry)
    process = SpanContext(trace_id, bytes.fromhex(fields[b"sp"].decode()))
    begun_us, queued_us = int(fields[b"bt"]), int(fields.get(b"qt") or b"0")
    ended_us = max(begun_us, entry.time_us)
    outcome = ops.AttemptOutcome.Name(int(fields[b"out"])).removeprefix("ATTEMPT_OUTCOME_")  # type: ignore[arg-type]
    error = error_of(entry, outcome)
    previous = fields.get(b"psp", b"").decode()
    common = attributes_of(service, entry, "process", "process") | {
        "waybill.attempt": int(fields[b"at"]),
        "waybill.outcome": outcome,
        "waybill.worker": fields.get(b"w", b"").decode(),
        "waybill.queue_wait_ms": max(0, begun_us - queued_us) / 1000,
    }
    if error:
        common["error.type"] = fields.get(b"er", b"").decode() or outcome
    yield Span(
        name=f"process {queue_of(entry)}",
        kind=CONSUMER,
        context=process,
        parent_span_id=send_span_id,
        start_us=begun_us,
        end_us=ended_us,
        attributes=common,
        error=error,
        links=(SpanContext(trace_id, bytes.fromhex(previous)),) if previous else (),
    )
    yield Span(
        name=f"settle {queue_of(entry)}",
        kind=CLIENT,
        context=SpanContext(trace_id, derived_span_id(process.span_id, "settle")),
        parent_span_id=process.span_id,
        start_us=ended_us,
        end_us=ended_us,
        attributes=attributes_of(service, entry, "settle", "settle") | {"waybill.attempt": int(fields[b"at"])},
    )


def settle_without_attempt(service: str, entry: Entry) -> Span:
    """An operation that ended outside an attempt: expired, cancelled while it waited, or its children done."""
    trace_id, send_span_id = place_of(entry)
    outcome = entry.verb.decode().upper()
    error = "" if entry.verb == b"succeeded" else entry.fields.get(b"em", b"").decode() or outcome
    attributes = attributes_of(service, entry, "settle", "settle")
    if error:
        attributes["error.type"] = outcome
    return Span(
        name=f"settle {queue_of(entry)}",
        kind=CLIENT,
        context=SpanContext(trace_id, derived_span_id(send_span_id, f"settle/{entry.operation_id}")),
        parent_span_id=send_span_id,
        start_us=entry.time_us,
        end_us=entry.time_us,
        attributes=attributes,
        error=error,
    )


def publish_span(published: store_pb2.PublishedEvent, time_us: int) -> Iterator[Span]:
    """A published event is a span: child of what published it, parent of what subscribers accept."""
    context, parent = SpanContext.parse(published.event.traceparent), SpanContext.parse(published.parent)
    if context is None or parent is None:
        return
    yield Span(
        name=f"publish {published.event.type}",
        kind=PRODUCER,
        context=context,
        parent_span_id=parent.span_id,
        start_us=min(time_us, published.event.time.ToMicroseconds()),
        end_us=max(time_us, published.event.time.ToMicroseconds()),
        attributes={
            "messaging.system": "redis",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": published.event.type,
            "messaging.message.id": published.event.id,
            "cloudevents.event_id": published.event.id,
            "cloudevents.event_source": published.event.source,
            "cloudevents.event_type": published.event.type,
            "cloudevents.event_subject": published.event.subject,
        },
        links=tuple(filter(None, map(SpanContext.parse, published.links))),
    )


def attributes_of(service: str, entry: Entry, operation: str, type_: str) -> dict[str, Attribute]:
    """Attributes of every span about an operation (OpenTelemetry's messaging conventions, and our own)."""
    fields = entry.fields
    attributes: dict[str, Attribute] = {
        "messaging.system": "redis",
        "messaging.operation.name": operation,
        "messaging.operation.type": type_,
        "messaging.destination.name": queue_of(entry),
        "messaging.message.id": entry.operation_id,
        "messaging.message.conversation_id": fields.get(b"root", b"").decode() or entry.operation_id,
        "waybill.operation": operation_name(service, entry.operation_id),
        "waybill.task": fields[b"task"].decode(),
        "waybill.state": state_name(int(fields[b"st"])),
    }
    return attributes


def error_of(entry: Entry, outcome: str) -> str:
    """The status message of an attempt that ended with an error; empty for the others."""
    if outcome in {"SUCCEEDED", "FANNED_OUT", "RETURNED"}:
        return ""
    return entry.fields.get(b"em", b"").decode() or outcome


def queue_of(entry: Entry) -> str:
    """Name of the queue that the entry's operation belongs to."""
    return entry.fields[b"q"].decode()


def place_of(entry: Entry) -> tuple[bytes, bytes]:
    """Trace id and `send` span id of the entry's operation."""
    trace_id, _, send_span_id = entry.fields[b"tr"].decode().partition("/")
    return bytes.fromhex(trace_id), bytes.fromhex(send_span_id)


def derived_span_id(span_id: bytes, purpose: str) -> bytes:
    """The same id whenever it is derived: 8 bytes of SHA-256."""
    return hashlib.sha256(span_id + purpose.encode()).digest()[:8]
