"""What is written directly reads as the standard messages."""

import string

from chassis.otlp_wire import export_request, span_bytes
from chassis.telemetry import Span, SpanContext
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

CONTEXTS = st.builds(SpanContext, st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8))
TIMES = st.integers(0, 1 << 53)
VALUES = st.one_of(st.text(max_size=300), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats())
KEYS = st.one_of(st.sampled_from(["waybill.task", "waybill.attempt"]), st.text(string.printable, max_size=200))
SPANS = st.builds(
    Span,
    name=st.text(max_size=200),
    kind=st.integers(1, 5),
    context=CONTEXTS,
    parent_span_id=st.sampled_from([b"", b"12345678"]),
    start_us=TIMES,
    end_us=TIMES,
    attributes=st.dictionaries(KEYS, VALUES, max_size=6),
    error=st.text(max_size=300),
    links=st.lists(CONTEXTS, max_size=3).map(tuple),
)


def value_of(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


@given(SPANS)
def test_a_span_reads_as_it_was(span):
    """Ids, times, every attribute with its type, links and status."""
    read = trace_pb2.Span.FromString(span_bytes(span))

    assert (read.trace_id, read.span_id, read.parent_span_id) == (
        span.context.trace_id,
        span.context.span_id,
        span.parent_span_id,
    )
    assert (read.name, read.kind) == (span.name, span.kind)
    assert read.start_time_unix_nano == span.start_us * 1000
    assert read.end_time_unix_nano == max(span.end_us, span.start_us + 1) * 1000
    found = {each.key: value_of(each.value) for each in read.attributes}
    assert repr(found) == repr(span.attributes)
    assert [(link.trace_id, link.span_id) for link in read.links] == [(c.trace_id, c.span_id) for c in span.links]
    assert (read.status.code, read.status.message) == ((2, span.error) if span.error else (0, ""))


@given(st.lists(SPANS, max_size=4))
def test_a_request_reads_as_one_resource_with_its_spans(spans):
    """And is what a stock receiver expects."""
    resource = {"service.name": "reports", "process.pid": 7}
    request = export_request(resource, [span_bytes(span) for span in spans])

    read = trace_service_pb2.ExportTraceServiceRequest.FromString(request)

    (under,) = read.resource_spans
    assert {each.key: value_of(each.value) for each in under.resource.attributes} == resource
    (scope,) = under.scope_spans
    assert scope.scope.name == "waybill"
    assert [each.name for each in scope.spans] == [span.name for span in spans]
