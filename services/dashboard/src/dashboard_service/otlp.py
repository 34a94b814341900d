"""OpenTelemetry's spans as Waybill's `waybill.traces.v1.Span`."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from waybill.traces.v1 import traces_pb2

_TRACE_BYTES = 16
_SPAN_BYTES = 8
_MAX_VALUE_CHARACTERS = 4096
_MAX_ATTRIBUTES = 128


@dataclass(frozen=True, slots=True)
class Received:
    """A span with the trace that it belongs to, 32 lower-case hex digits."""

    trace_id: str
    span: traces_pb2.Span


class InvalidSpan(ValueError):
    """A span whose ids are not what the OTLP specification asks for."""


def read(request: ExportTraceServiceRequest) -> Iterator[Received | InvalidSpan]:
    """Every span of an export, or what is wrong with it."""
    for resource_spans in request.resource_spans:
        service = _service_name(resource_spans)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _read_span(span, service)


def _service_name(resource_spans: trace_pb2.ResourceSpans) -> str:
    for attribute in resource_spans.resource.attributes:
        if attribute.key == "service.name":
            return printed(attribute.value)
    return "unknown_service"


def _read_span(span: trace_pb2.Span, service: str) -> Received | InvalidSpan:
    if len(span.trace_id) != _TRACE_BYTES or not any(span.trace_id):
        return InvalidSpan(f"span {span.name!r}: trace_id must have 16 bytes that are not all zero")
    if len(span.span_id) != _SPAN_BYTES or not any(span.span_id):
        return InvalidSpan(f"span {span.name!r}: span_id must have 8 bytes that are not all zero")
    kept = traces_pb2.Span(
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() if any(span.parent_span_id) else "",
        name=span.name,
        kind=traces_pb2.SpanKind.ValueType(span.kind),
        service=service,
        error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        error_message=span.status.message[:_MAX_VALUE_CHARACTERS],
        attributes={each.key: printed(each.value) for each in span.attributes[:_MAX_ATTRIBUTES]},
        links=[traces_pb2.SpanLink(trace_id=link.trace_id.hex(), span_id=link.span_id.hex()) for link in span.links],
    )
    kept.start_time.FromNanoseconds(span.start_time_unix_nano)
    kept.end_time.FromNanoseconds(span.end_time_unix_nano)
    return Received(span.trace_id.hex(), kept)


def printed(value: common_pb2.AnyValue) -> str:
    """An attribute's value in its printed form: text as it is, everything else as JSON; cut at 4,096 characters."""
    plain = _plain(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else text[: _MAX_VALUE_CHARACTERS - 1] + "…"


def _plain(value: common_pb2.AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_plain(each) for each in value.array_value.values]
        case "kvlist_value":
            return {each.key: _plain(each.value) for each in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case None:
            return None
        case kind:
            return getattr(value, kind)
