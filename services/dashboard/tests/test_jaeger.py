import socket
import subprocess
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from chassis.errors import NotFound, Unavailable
from dashboard_service.context import KEY
from dashboard_service.jaeger import Jaeger
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from waybill.traces.v1 import traces_pb2

from conftest import infrastructure

WAIT_SECONDS = 90
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = (
    '{"result":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"reports"}}]},'
    '"scopeSpans":[{"spans":[{"traceId":"%s","spanId":"b7ad6b7169203331","name":"%s","kind":2,'
    '"startTimeUnixNano":"1000000001","endTimeUnixNano":"1000000005","status":{"code":2,"message":"broken"},'
    '"links":[{"traceId":"%s","spanId":"00f067aa0ba902b7"}]}]}]}]}}'
)

CONFIGURATION = """
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 100}}}}}}}}
  jaeger_query: {{storage: {{traces: memory}}, http: {{endpoint: "{query}"}}, grpc: {{endpoint: "127.0.0.1:0"}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "{otlp}"}}}}}}}}
exporters: {{jaeger_storage_exporter: {{trace_storage: memory}}}}
"""


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def real_jaeger(tmp_path):
    """Jaeger with its storage in memory, on ports of its own; where it takes spans, and where its pages are."""
    query, receiver = free_address(), free_address()
    file = tmp_path / "jaeger.yaml"
    file.write_text(CONFIGURATION.format(query=query, otlp=receiver))
    command = [infrastructure("jaeger"), "--config", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=WAIT_SECONDS) as client:
        client.get(f"http://{query}")
    yield receiver, f"http://{query}"
    process.terminate()
    process.wait(WAIT_SECONDS)


@pytest.fixture
def answering():
    """A query service that gives this answer to everything; its URL."""
    servers = []

    def start(status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return Jaeger(f"http://127.0.0.1:{servers[-1].server_port}", WAIT_SECONDS)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_spans_come_to_the_nanosecond_with_links_and_errors(answering):
    """Several documents, one after the other, are one trace."""
    jaeger = answering(200, SPAN % (TRACE, "first", TRACE) + "\n" + SPAN % (TRACE, "second", TRACE))

    first, second = jaeger.spans(TRACE)

    assert (first.name, second.name, first.service, first.error_message) == ("first", "second", "reports", "broken")
    assert first.start_time.ToNanoseconds() == 1_000_000_001
    assert [(link.trace_id, link.span_id) for link in first.links] == [(TRACE, "00f067aa0ba902b7")]
    assert first.kind == traces_pb2.SPAN_KIND_SERVER


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(404, "", NotFound), (200, "", NotFound), (500, "", Unavailable), (200, "<html>", Unavailable)],
)
def test_what_is_no_trace_is_told_apart(answering, status, body, error):
    """A trace that is not there yet is no fault of Jaeger's; everything else is."""
    with pytest.raises(error):
        answering(status, body).spans(TRACE)


def test_nobody_listening_is_said(answering):
    """The page says that Jaeger does not answer, and why."""
    with pytest.raises(Unavailable, match="Jaeger gives no traces"):
        Jaeger("http://127.0.0.1:9", 5).spans(TRACE)


@pytest.mark.needs("jaeger")
@pytest.mark.thorough
def test_the_page_shows_what_a_real_jaeger_has(app, settings, browser, real_jaeger):
    """Spans of a stock exporter, drawn as a waterfall, with a link to Jaeger's own page."""
    receiver, jaeger = real_jaeger
    provider = TracerProvider(resource=Resource.create({"service.name": "reports"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=receiver, insecure=True)))
    tracer = provider.get_tracer("t")
    with (
        tracer.start_as_current_span("accept", kind=trace.SpanKind.SERVER) as root,
        tracer.start_as_current_span("render", attributes={"pages": 3}),
    ):
        trace_id = f"{root.get_span_context().trace_id:032x}"
    provider.shutdown()
    app.extensions[KEY] = replace(app.extensions[KEY], settings=settings.model_copy(update={"jaeger_url": jaeger}))

    page = browser.get(f"/traces/{trace_id}").text
    missing = browser.get(f"/traces/{TRACE}").text

    for shown in ("accept", "render", "pages", "reports", f'href="{jaeger}/trace/{trace_id}"'):
        assert shown in page, shown
    assert "Nothing of this trace is here yet" in missing
