"""The dashboard as it is deployed: processes of its own, gunicorn, real HTTP."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import grpc
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from waybill.traces.v1 import traces_pb2, traces_pb2_grpc

from services.dashboard.tests.live_client import LiveClient

WAIT_SECONDS = 60


class Process:
    """One process; its log is read until it says what is waited for."""

    def __init__(self, *arguments, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DASHBOARD_", "WAYBILL_"))}
        self.started = subprocess.Popen(
            [sys.executable, "-m", "dashboard_service", *arguments],
            env={**clean, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def says(self, text):
        """Wait for a line with the text in it."""
        for line in self.started.stdout:
            if text in line:
                return line
        raise AssertionError(f"ended with {self.started.wait()} and never said {text!r}")

    def end(self):
        self.started.send_signal(signal.SIGTERM)
        self.started.communicate(timeout=WAIT_SECONDS)
        return self.started.returncode


@pytest.fixture
def start() -> Iterator:
    processes = []

    def run(*arguments, **environment):
        processes.append(Process(*arguments, **environment))
        return processes[-1]

    yield run
    for process in processes:
        if process.started.poll() is None:
            process.started.kill()
        process.started.communicate()


@pytest.fixture
def port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture
def web(start, fakes, port):
    """The web process in front of the fake gateways, following all of them."""
    routes = ",".join(f"{name}={target}" for name, target in fakes.routes.items())
    process = start(
        "web",
        DASHBOARD_LISTEN=f"127.0.0.1:{port}",
        WAYBILL_ROUTES=routes,
        DASHBOARD_TRACES_TARGET="",
        WAYBILL_GRACE_SECONDS="30",
    )
    for _ in fakes.routes:
        process.says("events.following")
    process.address = f"http://127.0.0.1:{port}"
    return process


def test_the_web_process_serves_pages_and_streams(fakes, web):
    """Gunicorn with threads: a page while a stream is open, and the stream moves."""
    with LiveClient(f"{web.address}/live?changes=all") as stream:
        page = httpx.get(f"{web.address}/operations", timeout=WAIT_SECONDS)
        kept = fakes.do(fakes["metrics"].service.accept, "metrics.apply_samples")
        seen = stream.until(lambda change: change["id"] == kept.id)

    assert page.status_code == 200
    assert seen[-1]["state"] == "QUEUED"


def test_an_open_stream_does_not_hold_the_process(web):
    """SIGTERM ends the streams at once; the process does not wait for the grace time."""
    with LiveClient(f"{web.address}/live") as stream:
        stream.next("sample")
        web.started.send_signal(signal.SIGTERM)
        with pytest.raises(StopIteration):
            stream.next("never")

        assert web.started.wait(timeout=20) == 0


def test_a_stream_survives_the_process(fakes, start, web, port):
    """The process is killed; a browser that resumes at the next one gets what was published while there was none."""
    page = httpx.get(f"{web.address}/operations", timeout=WAIT_SECONDS).text
    cursor = page.split('data-cursor="')[1].split('"')[0]
    with LiveClient(f"{web.address}/live?changes=all&cursor={cursor}") as stream:
        first = fakes.do(fakes["metrics"].service.accept, "metrics.apply_samples")
        stream.until(lambda change: change["id"] == first.id)
        web.started.kill()
        with pytest.raises((StopIteration, httpx.TransportError)):
            stream.next("never")
        web.started.communicate(timeout=20)
        last_id = stream.last_id
    missed = [fakes.do(fakes["metrics"].service.accept, "metrics.apply_samples") for _ in range(3)]
    routes = ",".join(f"{name}={target}" for name, target in fakes.routes.items())
    again = start("web", DASHBOARD_LISTEN=f"127.0.0.1:{port}", WAYBILL_ROUTES=routes, DASHBOARD_TRACES_TARGET="")
    again.says("Booting worker")
    again.says("events.following")

    with LiveClient(f"{web.address}/live?changes=all", last_id) as stream:
        seen = stream.until(lambda change: change["id"] == missed[-1].id)

    assert [change["id"] for change in seen] == [kept.id for kept in missed]


def test_the_trace_process_receives_and_shows_spans(start, port):
    """A stock exporter's span is there for GetTrace, until SIGTERM ends the process."""
    process = start("traces", DASHBOARD_TRACES_LISTEN=f"127.0.0.1:{port}")
    process.says("traces.serving")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"127.0.0.1:{port}", insecure=True)))
    with provider.get_tracer("t").start_as_current_span("hello") as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = traces_pb2_grpc.TraceServiceStub(channel)
        spans = stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=trace_id), timeout=WAIT_SECONDS).spans
    provider.shutdown()

    assert [span.name for span in spans] == ["hello"]
    assert process.end() == 0


def test_check_needs_no_network(start):
    """`--check` loads everything, says so in one line and asks nobody."""
    process = start("--check", WAYBILL_ROUTES="metrics=127.0.0.1:1")

    output, _ = process.started.communicate(timeout=WAIT_SECONDS)

    assert process.started.returncode == 0
    assert output.startswith("dashboard: settings, ")
    assert output.endswith("all is well\n")


def test_wrong_settings_end_the_start_with_all_that_is_wrong(start):
    """Exit code 2, every variable with what was expected, nothing started."""
    process = start("web", DASHBOARD_LISTEN="nowhere", DASHBOARD_THREADS="1")

    output, _ = process.started.communicate(timeout=WAIT_SECONDS)

    assert process.started.returncode == 2
    assert "DASHBOARD_LISTEN: expected host:port" in output
    assert "DASHBOARD_THREADS: " in output


@pytest.mark.parametrize("arguments", [[], ["worker"], ["web", "--check"]])
def test_an_unknown_process_is_refused(start, arguments):
    """The command line says which processes there are."""
    process = start(*arguments)

    output, _ = process.started.communicate(timeout=WAIT_SECONDS)

    assert process.started.returncode == 2
    assert "web" in output
