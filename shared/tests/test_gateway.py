"""A whole gateway in a process of its own, with a real Valkey: it serves, says how it is, and drains."""

import os
import signal
import subprocess
import sys
import textwrap

import grpc
import pytest
from chassis import statuses
from chassis.embedded import EmbeddedValkey, free_port
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

PACKAGE = {
    "__init__.py": "",
    "__main__.py": """
        from chassis.process import Service, run
        from depot_service.gateway import DepotSettings

        raise SystemExit(
            run(
                Service(
                    name="depot",
                    settings=DepotSettings,
                    app="depot_service.tasks:app",
                    gateway="depot_service.gateway:serve",
                    scheduler="depot_service.gateway:tick",
                )
            )
        )
        """,
    "tasks.py": """
        from chassis.retries import RetryPolicy
        from chassis.worker import Attempt, QueueSpec, ServiceApp
        from waybill.reports.v1 import reports_pb2

        app = ServiceApp("depot", queues=[QueueSpec("depot.default", tasks=["depot.*"])])


        @app.task(name="depot.render", policy=RetryPolicy())
        def render(attempt: Attempt, request: reports_pb2.RenderReportRequest) -> reports_pb2.RenderReportResponse:
            return reports_pb2.RenderReportResponse()
        """,
    "gateway.py": """
        from datetime import timedelta

        from chassis.operations import Submission
        from chassis.rpc import Gateway
        from chassis.settings import ServiceSettings
        from chassis.ticker import Ticker
        from pydantic_settings import SettingsConfigDict
        from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

        from depot_service import tasks


        class DepotSettings(ServiceSettings):
            model_config = SettingsConfigDict(env_prefix="DEPOT_")
            listen: str = "127.0.0.1:0"


        class Servicer(reports_pb2_grpc.ReportsServiceServicer):
            def __init__(self, operations):
                self.operations = operations

            async def RenderReport(self, request, context):
                return await self.operations.accept(tasks.render, request)


        def serve(settings):
            gateway = Gateway(tasks.app, settings)
            gateway.add(reports_pb2_grpc.add_ReportsServiceServicer_to_server, Servicer(gateway.operations))
            return gateway.run()


        def tick(settings):
            request = reports_pb2.RenderReportRequest(title="tick")
            ticker = Ticker(
                tasks.app,
                settings,
                every=timedelta(days=365),
                submission=lambda instant: Submission(tasks.render, request, labels={"instant": f"{instant:%H}"}),
            )
            return ticker.run()
        """,
}


class Depot:
    """The processes of the test's service, in one environment."""

    def __init__(self, folder, **variables):
        self.processes = []
        self.port, self.probe_port = free_port(), free_port()
        package = folder / "depot_service"
        package.mkdir()
        for name, text in PACKAGE.items():
            (package / name).write_text(textwrap.dedent(text))
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "WAYBILL_STATE_DIR": str(folder / "state"),
            "WAYBILL_ROUTES": f"depot=127.0.0.1:{self.port}",
            "DEPOT_LISTEN": f"127.0.0.1:{self.port}",
            "DEPOT_HEALTH_LISTEN": f"127.0.0.1:{self.probe_port}",
            **variables,
        }
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.max_reconnect_backoff_ms", 200)])
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self.reports = reports_pb2_grpc.ReportsServiceStub(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)

    def start(self, role):
        process = subprocess.Popen(
            [sys.executable, "-m", "depot_service", role],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def watch(self, service=""):
        request = health_pb2.HealthCheckRequest(service=service)
        return (answer.status for answer in self.health.Watch(request, wait_for_ready=True, timeout=60))

    def listed(self):
        request = operations_pb2.ListOperationsRequest(name="operations/depot")
        return self.operations.ListOperations(request).operations

    def close(self):
        self.channel.close()
        for process in self.processes:
            process.kill()
            print(process.communicate()[1])


def await_status(statuses_seen, wanted):
    for status in statuses_seen:
        if status == wanted:
            return
    raise AssertionError(f"the stream ended before {wanted}")


@pytest.fixture
def valkey(tmp_path):
    with EmbeddedValkey(tmp_path / "valkey") as running:
        yield running


@pytest.fixture
def depot(tmp_path, valkey):
    depot = Depot(tmp_path, WAYBILL_REDIS_URL=valkey.url)
    yield depot
    depot.close()


def test_a_gateway_accepts_through_an_outage_and_drains(depot, valkey, tmp_path):
    """Serving, then NOT_SERVING with a clear error while Valkey is gone, then serving again; SIGTERM ends it with 0."""
    gateway = depot.start("gateway")
    health = depot.watch("waybill.reports.v1.ReportsService")
    await_status(health, SERVING)
    accepted = depot.reports.RenderReport(reports_pb2.RenderReportRequest(title="a", request_id="r"))
    assert accepted.name.startswith("operations/depot/")
    port = int(valkey.url.partition("127.0.0.1:")[2].partition("/")[0])

    valkey.stop()
    await_status(health, NOT_SERVING)
    with pytest.raises(grpc.RpcError) as refused:
        depot.reports.RenderReport(reports_pb2.RenderReportRequest(title="b"), timeout=5)
    status = statuses.rpc_status(refused.value)
    assert statuses.status_code(status) is grpc.StatusCode.UNAVAILABLE
    assert statuses.reason_of(status) == "STORE_UNAVAILABLE"
    assert statuses.retry_delay(status)

    with EmbeddedValkey(tmp_path / "valkey", port=port):
        await_status(health, SERVING)
        again = depot.reports.RenderReport(reports_pb2.RenderReportRequest(title="a", request_id="r"))
        assert again.name == accepted.name

        gateway.send_signal(signal.SIGTERM)
        await_status(health, NOT_SERVING)
        assert gateway.wait(20) == 0


def test_a_frozen_valkey_is_answered_for_within_the_deadline(depot, valkey):
    """A store that neither answers nor refuses does not make the gateway hang."""
    depot.start("gateway")
    health = depot.watch()
    await_status(health, SERVING)

    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(grpc.RpcError) as refused:
            depot.reports.RenderReport(reports_pb2.RenderReportRequest(title="b"), timeout=1)
        await_status(health, NOT_SERVING)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    await_status(health, SERVING)

    status = statuses.rpc_status(refused.value)
    assert statuses.status_code(status) is grpc.StatusCode.UNAVAILABLE
    assert statuses.detail(status, error_details_pb2.RetryInfo)


def test_health_may_be_served_alone(depot):
    """Probes ask a listener that has nothing else."""
    depot.start("gateway")
    await_status(depot.watch(), SERVING)

    with grpc.insecure_channel(f"127.0.0.1:{depot.probe_port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.RpcError) as raised:
            reports_pb2_grpc.ReportsServiceStub(channel).GetReport(reports_pb2.GetReportRequest())

    assert check.status == SERVING
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_address_that_is_taken_is_said(depot):
    """Two gateways on one port do not share its calls: the second ends at once."""
    depot.start("gateway")
    await_status(depot.watch(), SERVING)

    second = depot.start("gateway")

    _, printed = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "gateway.cannot_listen" in printed


def test_schedulers_at_the_same_tick_make_one_operation(depot):
    """Any number of schedulers may run; SIGTERM ends each with 0."""
    depot.start("gateway")
    await_status(depot.watch(), SERVING)
    depot.environment["WAYBILL_LOG_LEVEL"] = "debug"
    schedulers = [depot.start("scheduler") for _ in range(2)]
    for scheduler in schedulers:
        assert any("ticker.accepted" in line for line in scheduler.stderr)

    for scheduler in schedulers:
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(20) == 0

    assert len(depot.listed()) == 1
