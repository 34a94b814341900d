"""All of Waybill's services under test, and short words for what tests say to them."""

import os
import secrets
import signal
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
from chassis.testing.harness import Harness, ServiceUnderTest
from google.longrunning import operations_pb2
from grpc_health.v1 import health_pb2
from waybill.admin.v1 import admin_pb2_grpc
from waybill.events.v1 import events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2_grpc
from waybill.notify.v1 import notify_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2_grpc

from tests.following import Followed

NAMES = ("metrics", "notify", "reports")
OTLP_METRICS = "opentelemetry.proto.collector.metrics.v1"
#: Long enough for a busy machine to renew in, short enough to wait for.
LEASE_SECONDS = 4
#: Tables into which operations move that have ended; the operations are listed all the while.
ARCHIVE = frozenset({"operations", "operation_labels"})
#: What the issue allows a new attempt beyond the lease.
RESCUE_SECONDS = 5
#: The only private address that webhooks may reach here.
RECEIVER_HOST = "127.0.0.1"
#: The scheduler's operations come by themselves.
TICKING = "metrics.evaluate_rules"

SERVICES = (
    ServiceUnderTest(
        "metrics",
        "metrics_service",
        roles=("gateway", "worker", "scheduler"),
        environment={"METRICS_EVALUATION_INTERVAL_SECONDS": "1"},
        routed_packages=(OTLP_METRICS,),
    ),
    ServiceUnderTest(
        "notify",
        "notify_service",
        roles=("gateway", "worker", "subscriber"),
        environment={"NOTIFY_WEBHOOK_ALLOW_PRIVATE": RECEIVER_HOST, "NOTIFY_WEBHOOK_TIMEOUT_SECONDS": "30"},
    ),
    ServiceUnderTest("reports", "reports_service", roles=("gateway", "worker", "subscriber")),
)


class Stack(Harness):
    """Gateways, workers, subscribers and the scheduler of metrics, notify and reports.

    Args:
        environment: of every process, over what this sets.
        valkey: one that is there already, which the caller ends.
        client: an interceptor of the channels that tests call the gateways on.
    """

    def __init__(self, directory, environment=None, valkey=None, client=None):
        given = {"WAYBILL_LEASE_SECONDS": str(LEASE_SECONDS), "WAYBILL_GRACE_SECONDS": "2", **(environment or {})}
        super().__init__(directory, SERVICES, environment=given, valkey=valkey)
        self.client = client

    def channel(self, service):
        channel = super().channel(service)
        return channel if self.client is None else grpc.intercept_channel(channel, self.client)

    def make_whole(self):
        """Whatever a test has stopped, frozen or killed runs again and serves."""
        self._signal_valkey(signal.SIGCONT)
        self.valkey.start()
        for process in self.processes:
            if process.running:
                signal_group(process, signal.SIGCONT)
        self.start()

    @contextmanager
    def another(self, service, role, **options):
        """One more process of a service, running for as long as the block."""
        process = self.add(service, role, name=f"{service} {role} {secrets.token_hex(2)}", **options)
        process.start()
        try:
            yield process
        finally:
            process.end()
            self.processes.remove(process)

    def metrics(self, through="metrics"):
        return self.stub(through, metrics_pb2_grpc.MetricsServiceStub)

    def notify(self, through="notify"):
        return self.stub(through, notify_pb2_grpc.NotifyServiceStub)

    def reports(self, through="reports"):
        return self.stub(through, reports_pb2_grpc.ReportsServiceStub)

    def dead_letters(self, through):
        return self.stub(through, admin_pb2_grpc.DeadLetterServiceStub)

    def follow(self, service, *types, through=""):
        """The service's events of these types from now on."""
        return Followed(self.stub(through or service, events_pb2_grpc.EventServiceStub), service, types)

    def resumed(self, service, cursor, through=""):
        """All of the service's events after the cursor."""
        return Followed(self.stub(through or service, events_pb2_grpc.EventServiceStub), service, (), cursor)

    def get(self, name):
        """The operation and its metadata as they are."""
        operation = self.operations(name.split("/")[1]).GetOperation(operations_pb2.GetOperationRequest(name=name))
        return operation, unpacked(operation.metadata, ops.OperationMetadata)

    def cancel(self, name):
        """Ask for the operation's cancellation."""
        self.operations(name.split("/")[1]).CancelOperation(operations_pb2.CancelOperationRequest(name=name))

    def listed(self, service, wanted=""):
        """Name and metadata of every operation that matches, newest first."""
        found, token = [], ""
        while True:
            request = operations_pb2.ListOperationsRequest(
                name=f"operations/{service}", filter=wanted, page_size=1000, page_token=token
            )
            page = self.operations(service).ListOperations(request)
            found += [(each.name, unpacked(each.metadata, ops.OperationMetadata)) for each in page.operations]
            token = page.next_page_token
            if not token:
                return found

    def finished_all(self, service, wanted):
        """As `listed`, once each of them has ended."""
        for name, _ in self.listed(service, wanted):
            self.finished(name)
        return self.listed(service, wanted)

    def stored(self):
        """Names of all operations but the scheduler's, and the number of rows of every table but the archive's."""
        operations = {name for service in NAMES for name, kept in self.listed(service) if kept.task != TICKING}
        return operations, {service: self._rows_beside_the_archive(service) for service in NAMES}

    def _rows_beside_the_archive(self, service):
        return {name: count for name, count in self.rows(service).items() if name not in ARCHIVE}

    def rows(self, service):
        """How many rows each table of the service's database has."""
        with self.database(service) as connection:
            named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in named}

    @contextmanager
    def database(self, service):
        """The service's SQLite, to look into, or to hold its lock for writing: `BEGIN IMMEDIATE`."""
        path = self.state_dir / service / f"{service}.db"
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            yield connection

    @contextmanager
    def frozen_valkey(self):
        """Valkey is there and does not answer. What it is sent meanwhile it does afterwards, if it is not killed.

        What it did before this it has answered: a server can be stopped between two answers, and has sent the first.
        """
        self.store("metrics").client.ping()
        self._signal_valkey(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_valkey(signal.SIGCONT)

    def _signal_valkey(self, number):
        for server in getattr(self.valkey, "servers", (self.valkey,)):
            if server.pid is not None:
                os.kill(server.pid, number)

    def wait_until_not_serving(self, service):
        self.wait_for_health(service, health_pb2.HealthCheckResponse.NOT_SERVING)

    @property
    def maildir(self):
        return self.state_dir / "notify" / "Maildir"

    @property
    def artifacts(self) -> Path:
        return self.state_dir / "reports" / "artifacts"


def unpacked(packed, kind):
    """The message in an Any, which must be of this type."""
    message = kind()
    assert packed.Unpack(message), f"a {packed.TypeName()}, no {kind.DESCRIPTOR.full_name}"
    return message


def response_of(operation, kind):
    """The response of an operation that must have succeeded."""
    assert operation.HasField("response"), operation
    return unpacked(operation.response, kind)


def unique(name):
    """A resource id that no other test has."""
    return f"{name}-{secrets.token_hex(4)}"


def signal_group(process, number):
    """Signal a process under test and its pool's children."""
    os.killpg(process.pid, number)


def until(holds, what, timeout=20.0):
    """For what gives no signal, as a row of a database: its first true value. Raises TimeoutError."""
    pause, end = threading.Event(), time.monotonic() + timeout
    while not (value := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout} s")
        pause.wait(0.02)
    return value


def reachable(address):
    """A stock channel that is connected, closed by its user."""
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(10)
    return channel
