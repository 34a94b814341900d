"""The health check of an image: what it asks, whom it asks, and that it says why not."""

import importlib.util
import os
import ssl
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "deploy/probe.py"
CERTIFICATES = ROOT / "shared/tests/certificates"


@pytest.fixture
def probe(monkeypatch):
    """The program, in a container of metrics that sets nothing else."""
    for name in os.environ:
        if name.startswith(("METRICS_", "DASHBOARD_", "WAYBILL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SERVICE", "metrics")
    spec = importlib.util.spec_from_file_location("probe", PROBE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Workers(admin_pb2_grpc.WorkerServiceServicer):
    def __init__(self):
        self.hosts, self.shown = [], []

    def ListWorkers(self, request, context):
        assert request.service == "metrics"
        self.shown.append(dict(context.invocation_metadata()).get("authorization"))
        return admin_pb2.ListWorkersResponse(workers=[admin_pb2.Worker(host=host) for host in self.hosts])


@pytest.fixture
def gateway():
    """A server with health and workers, which a test sets; at another port it asks for certificates."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.health, server.workers = health.HealthServicer(), Workers()
    health_pb2_grpc.add_HealthServicer_to_server(server.health, server)
    admin_pb2_grpc.add_WorkerServiceServicer_to_server(server.workers, server)
    server.port = server.add_insecure_port("127.0.0.1:0")
    pair = ((CERTIFICATES / "reports.key").read_bytes(), (CERTIFICATES / "reports.pem").read_bytes())
    authority = (CERTIFICATES / "ca.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=True)
    server.closed_port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield server
    server.stop(None).wait()


@pytest.fixture
def page():
    """A server whose /healthz answers what a test sets."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(
    ("arguments", "role"),
    [
        (["python", "-m", "metrics_service", "gateway"], "gateway"),
        (["python", "-m", "reports_service", "worker", "-Q", "reports.bulk"], "worker"),
        (["/sbin/docker-init", "--", "sh", "-c", 'exec python -m ${SERVICE}_service "$@"', "waybill", "web"], "web"),
    ],
)
def test_the_process_is_read_from_the_command_line(probe, arguments, role):
    """With an init before it and without."""
    assert probe.role("\0".join([*arguments, ""]).encode()) == role


def test_a_process_that_is_none_of_ours_is_not_well(probe):
    """The check of a settings-only run, or of a shell, is nobody's health."""
    with pytest.raises(probe.Unwell, match="none of gateway, worker"):
        probe.role(b"sh\0")


def test_a_gateway_is_well_while_it_serves(probe, gateway, monkeypatch):
    """A listener on all interfaces is asked over loopback."""
    monkeypatch.setenv("METRICS_LISTEN", f"0.0.0.0:{gateway.port}")

    gateway.health.set("", health_pb2.HealthCheckResponse.SERVING)
    probe.own_health()

    gateway.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    with pytest.raises(probe.Unwell, match="NOT_SERVING"):
        probe.own_health()


def test_the_listener_for_probes_comes_first(probe, gateway, monkeypatch):
    """Where the other one speaks TLS, it is the only one that answers."""
    gateway.health.set("", health_pb2.HealthCheckResponse.SERVING)
    monkeypatch.setenv("METRICS_LISTEN", "0.0.0.0:1")
    monkeypatch.setenv("METRICS_HEALTH_LISTEN", f"127.0.0.1:{gateway.port}")

    probe.own_health()


@pytest.fixture
def closed(probe, monkeypatch):
    """The program, in a container that has certificates."""
    for name, file in (("CA", "ca.pem"), ("CERT", "reports.pem"), ("KEY", "reports.key")):
        monkeypatch.setenv(f"WAYBILL_TLS_{name}_FILE", str(CERTIFICATES / file))
    return probe


def test_a_gateway_with_tls_is_asked_over_tls(closed, gateway, monkeypatch):
    """Its own certificate is shown, in case it asks for one."""
    monkeypatch.setenv("METRICS_LISTEN", f"0.0.0.0:{gateway.closed_port}")
    gateway.health.set("", health_pb2.HealthCheckResponse.SERVING)

    closed.own_health()


def test_the_token_of_the_process_is_shown_for_the_list_of_workers(probe, gateway, monkeypatch, tmp_path):
    """Without it a closed gateway would list nobody."""
    (tmp_path / "token").write_text("wbt_mine\n")
    monkeypatch.setenv("WAYBILL_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("WAYBILL_ROUTES", f"metrics=127.0.0.1:{gateway.port}")
    gateway.workers.hosts = [probe.socket.gethostname()]

    probe.worker_is_listed()

    assert gateway.workers.shown == ["Bearer wbt_mine"]


def test_a_dashboard_with_tls_is_asked_over_tls(closed, page, monkeypatch):
    """By the same files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "reports.pem", CERTIFICATES / "reports.key")
    page.socket = context.wrap_socket(page.socket, server_side=True)
    page.status = 200
    monkeypatch.setenv("DASHBOARD_LISTEN", f"0.0.0.0:{page.server_port}")

    closed.page_is_served()


def test_a_worker_is_well_while_its_gateway_lists_its_host(probe, gateway, monkeypatch):
    """A worker on another host says nothing of this one."""
    monkeypatch.setenv("WAYBILL_ROUTES", f"notify=127.0.0.1:1,metrics=127.0.0.1:{gateway.port}")
    monkeypatch.setattr(probe.socket, "gethostname", lambda: "this")

    gateway.workers.hosts = ["other", "this"]
    probe.worker_is_listed()

    gateway.workers.hosts = ["other"]
    with pytest.raises(probe.Unwell, match="no worker on this"):
        probe.worker_is_listed()


@pytest.mark.parametrize("role", ["scheduler", "subscriber"])
def test_a_process_without_a_listener_is_as_well_as_its_gateway(probe, gateway, monkeypatch, role):
    """It needs what the gateway needs."""
    monkeypatch.setenv("WAYBILL_ROUTES", f"metrics=127.0.0.1:{gateway.port}")

    gateway.health.set("", health_pb2.HealthCheckResponse.SERVING)
    probe.CHECKS[role]()

    gateway.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    with pytest.raises(probe.Unwell):
        probe.CHECKS[role]()


def test_the_dashboard_is_well_while_its_page_answers(probe, page, monkeypatch):
    """Only 200 counts."""
    monkeypatch.setenv("DASHBOARD_LISTEN", f"0.0.0.0:{page.server_port}")

    page.status = 200
    probe.page_is_served()

    page.status = 503
    with pytest.raises(probe.Unwell, match="503"):
        probe.page_is_served()


def test_the_reason_is_said_and_the_exit_code_is_one(probe, monkeypatch, capsys):
    """It is what `docker inspect` shows."""
    monkeypatch.setattr(probe, "role", lambda _: "worker")
    monkeypatch.setenv("WAYBILL_ROUTES", "notify=127.0.0.1:1")

    code = probe.main()

    assert code == 1
    assert capsys.readouterr().err == "WAYBILL_ROUTES has no route to metrics\n"


def test_a_gateway_that_is_not_there_is_a_reason_too(probe, monkeypatch, capsys):
    """A refused connection is no traceback."""
    monkeypatch.setattr(probe, "role", lambda _: "scheduler")
    monkeypatch.setenv("WAYBILL_ROUTES", "metrics=127.0.0.1:1")

    code = probe.main()

    assert code == 1
    assert capsys.readouterr().err.startswith("UNAVAILABLE: ")
