"""What a contract marks as sensitive stays out of all that an attempt leaves behind, whatever its task does with it."""

import io
import json
import logging
import pickle

import pytest
from chassis import logging as chassis_logging
from chassis import span_sink
from chassis.errors import PermanentError, TransientError
from chassis.logging import get_logger
from chassis.redaction import REDACTED, guard, guarding, scrub, shown
from google.protobuf.any_pb2 import Any as AnyMessage
from opentelemetry.sdk.trace import TracerProvider
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops

from shared.tests.engine.attempt_runner import App, Runner

SECRET = 'whsec_c2Vj"cmV0\\w\u00f6rld'


def a_request():
    request = notify_pb2.SendNotificationRequest(template_id="alert")
    request.recipients.add(recipient_id="ops").channels.add().webhook.CopyFrom(
        notify_pb2.WebhookChannel(url="https://one.example", secret=SECRET)
    )
    return request


@pytest.fixture
def logged():
    """All that is logged while the test runs, as the process writes it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    chassis_logging.configure("test", "worker", stream=written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def spans(monkeypatch):
    """Spans that user code records with the SDK, as they go out."""
    sent = []
    sink = span_sink.SpanSink(span_sink.OtelSettings(), "test")
    monkeypatch.setattr(span_sink.SpanSink, "put", lambda self, span: sent.append(span))
    provider = TracerProvider()
    provider.add_span_processor(span_sink._SdkBridge(sink))
    return provider.get_tracer("test"), sent


@pytest.mark.parametrize("kind", [PermanentError, TransientError])
def test_a_marked_text_is_in_no_error_log_span_or_event_of_an_attempt(logged, spans, kind):
    """The task quotes it in its error, its progress, its log and its spans; the payload itself is kept as it came."""
    tracer, sent = spans
    runner = Runner(App()).accept(a_request())
    log = get_logger("task")

    def do(attempt, request):
        secret = request.recipients[0].channels[0].webhook.secret
        assert secret == SECRET
        attempt.progress(10, f"posting with {secret}")
        log.info("task.tries", secret=secret, nested={"headers": [secret]})
        logging.getLogger("library").warning("bad key %s", secret)
        with tracer.start_as_current_span("post", attributes={"key": secret}) as span:
            span.add_event("tried", {"key": secret})
        raise kind(f"the receiver does not like {secret!r} ({secret})", reason="REFUSED")

    after = runner.run(do, request_type=notify_pb2.SendNotificationRequest)

    assert after.state == ("FAILED" if kind is PermanentError else "RETRYING")
    lines = logged.getvalue()
    assert "task.tries" in lines
    assert "bad key" in lines
    assert len(sent) == 1
    entries = pickle.dumps([vars(entry) if hasattr(entry, "__dict__") else repr(entry) for entry in runner.bench.log()])
    told = repr(after).encode() + lines.encode() + sent[0] + entries
    for form in (SECRET, json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1], "c2Vj"):
        assert form.encode() not in told
    assert told.count(REDACTED.encode()) > 5


def test_nothing_is_taken_out_after_the_attempt():
    """What one attempt was given does not spoil what others say."""
    with guarding():
        guard(a_request())
        assert scrub(f"key {SECRET}") == f"key {REDACTED}"

    assert scrub(f"key {SECRET}") == f"key {SECRET}"


def test_short_texts_are_left_alone():
    """Three letters say nothing, and would be found in every word."""
    request = a_request()
    request.recipients[0].channels[0].webhook.secret = "the"
    with guarding():
        guard(request)
        assert scrub("there") == "there"


def test_what_is_shown_is_blanked_within_whatever_holds_it():
    """A payload in the metadata of an operation, a message in a message."""
    packed = AnyMessage()
    packed.Pack(a_request())
    metadata = ops.OperationMetadata(task="t", request=packed)

    seen = notify_pb2.SendNotificationRequest()
    shown(metadata).request.Unpack(seen)

    assert seen.recipients[0].channels[0].webhook.secret == REDACTED
    assert seen.recipients[0].channels[0].webhook.url == "https://one.example"
    assert metadata.request == packed
