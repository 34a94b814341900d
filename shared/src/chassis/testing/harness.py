"""Real processes of services, with ports, a Valkey, a state directory and a span collector of their own.

with Harness(tmp_path, [ServiceUnderTest("reports", "reports_service", roles=("gateway", "worker"))]) as harness:
    harness.start()
    stub = harness.stub("reports", reports_pb2_grpc.ReportsServiceStub)
    operation, metadata = harness.finished(stub.RenderReport(request))
    harness.process("reports", "worker").kill()
"""

from __future__ import annotations

import os
import random
import socket
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

from chassis.embedded import LOOPBACK, EmbeddedValkey
from chassis.store import Store
from chassis.testing.collector import SpanCollector
from chassis.testing.failover import ReplicatedValkey
from chassis.testing.processes import READY_SECONDS, ProcessUnderTest

S = TypeVar("S")

#: By which log event a process of each role says that it works.
READY_EVENTS: Final[Mapping[str, str]] = {
    "gateway": "gateway.serving",
    "worker": "worker.ready",
    "subscriber": "subscriber.started",
    "scheduler": "scheduler.started",
}
#: Below the ports that the kernel gives to outgoing connections and those of embedded servers, so that a stopped
#: gateway's stays free.
PORTS: Final = range(15_000, 20_000)
CALL_SECONDS: Final = 10.0

#: Harnesses that run, for whoever shows their logs.
running: weakref.WeakSet[Harness] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class ServiceUnderTest:
    """What is started of a service.

    Args:
        name: the service's; `<NAME>_LISTEN` is its gateway's address.
        package: `python -m <package> <role>` starts a process of it.
        roles: gateway, worker, subscriber, scheduler.
        environment: of its own processes, beside what the harness sets.
        routed_packages: proto packages that it owns beside `waybill.<name>.v1`.
    """

    name: str
    package: str
    roles: Sequence[str] = ("gateway", "worker")
    environment: Mapping[str, str] = field(default_factory=dict)
    routed_packages: Sequence[str] = ()


class Harness:
    """Services under test. Entering it starts Valkey and the collector; `start` starts the processes.

    Args:
        directory: for state and for Valkey's files; a temporary one.
        services: whose processes there are.
        environment: of every process: `{"WAYBILL_LEASE_SECONDS": "2"}`. It wins over what the harness sets.
        valkey: one that is there already, which the caller ends; none: one of its own.
    """

    def __init__(
        self,
        directory: Path,
        services: Sequence[ServiceUnderTest],
        *,
        environment: Mapping[str, str] | None = None,
        valkey: EmbeddedValkey | ReplicatedValkey | None = None,
    ) -> None:
        self.directory = directory
        self.services = {service.name: service for service in services}
        self.addresses = {service.name: f"{LOOPBACK}:{quiet_port()}" for service in services}
        self.valkey: EmbeddedValkey | ReplicatedValkey = valkey or EmbeddedValkey(directory / "valkey")
        self.collector = SpanCollector()
        self.processes: list[ProcessUnderTest] = []
        self._owns_valkey = valkey is None
        self._given = dict(environment or {})
        self._channels: dict[str, grpc.Channel] = {}
        self._stores: dict[str, Store] = {}

    @property
    def state_dir(self) -> Path:
        return self.directory / "state"

    @property
    def environment(self) -> dict[str, str]:
        """What every process is started with; also for programs that a test starts itself."""
        routes = {**self.addresses}
        for service in self.services.values():
            routes.update(dict.fromkeys(service.routed_packages, service.name))
        return {
            **inherited(prefix.upper() for prefix in self.services),
            **{f"{name.upper()}_LISTEN": address for name, address in self.addresses.items()},
            # Compiling every module anew would be most of what a start costs.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            "WAYBILL_REDIS_URL": self.valkey.url,
            "WAYBILL_STATE_DIR": str(self.state_dir),
            "WAYBILL_ROUTES": ",".join(f"{key}={target}" for key, target in routes.items()),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.endpoint,
            **self._given,
        }

    def start(self, *names: str) -> None:
        """Start the processes of these services, all of them without names, side by side; return when all work."""
        for service in [self.services[name] for name in names] or self.services.values():
            for role in service.roles:
                if not self._named(f"{service.name} {role}"):
                    self.add(service.name, role)
        waiting = [process for process in self.processes if not process.running and self._of(process, names)]
        for process in waiting:
            process.start(wait=False)
        for process in waiting:
            process.wait_until_ready()
        for name in names or self.services:
            if "gateway" in self.services[name].roles:
                self.wait_until_serving(name)

    def add(
        self,
        service: str,
        role: str,
        *,
        name: str = "",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> ProcessUnderTest:
        """One more process of a service, not started yet: a second worker, a worker of one queue."""
        spec = self.services[service]
        command = [sys.executable, "-m", spec.package, role, *arguments]
        return self.program(
            name or f"{service} {role}",
            command,
            environment={**spec.environment, **(environment or {})},
            ready_event=READY_EVENTS[role],
        )

    def program(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, ready_event: str = ""
    ) -> ProcessUnderTest:
        """Any other process of the stack, not started yet; it ends with the harness."""
        process = ProcessUnderTest(
            name,
            command,
            {**self.environment, **(environment or {})},
            ready_event=ready_event,
            directory=self.directory,
        )
        self.processes.append(process)
        return process

    def process(self, service: str, role: str) -> ProcessUnderTest:
        """Raises LookupError for one that is not there."""
        found = self._named(f"{service} {role}")
        if found is None:
            raise LookupError(f"there is no {service} {role}; there are {[process.name for process in self.processes]}")
        return found

    def channel(self, service: str) -> grpc.Channel:
        """A stock channel to the service's gateway, closed with the harness."""
        if service not in self._channels:
            options = (("grpc.max_reconnect_backoff_ms", 500), ("grpc.max_receive_message_length", -1))
            self._channels[service] = grpc.insecure_channel(self.addresses[service], options)
        return self._channels[service]

    def stub(self, service: str, kind: Callable[[grpc.Channel], S]) -> S:
        """A generated stub on that channel."""
        return kind(self.channel(service))

    def operations(self, service: str) -> operations_pb2_grpc.OperationsStub:
        return self.stub(service, operations_pb2_grpc.OperationsStub)

    def store(self, service: str) -> Store:
        """The service's operation store, to look into."""
        if service not in self._stores:
            self._stores[service] = Store.connect(service, self.valkey.url)
        return self._stores[service]

    def finished(
        self, operation: operations_pb2.Operation | str, timeout: float = 30.0
    ) -> tuple[operations_pb2.Operation, ops.OperationMetadata]:
        """The operation in its final state, with its metadata. Raises TimeoutError when it has not ended in time."""
        name = operation if isinstance(operation, str) else operation.name
        request = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=int(timeout)))
        answer = self.operations(name.split("/")[1]).WaitOperation(request, timeout=timeout + CALL_SECONDS)
        metadata = metadata_of(answer)
        if not answer.done:
            raise TimeoutError(f"{name} has not ended after {timeout} s:\n{metadata}")
        return answer, metadata

    def wait_until_serving(self, service: str, timeout: float = READY_SECONDS) -> None:
        """Until the gateway's health says SERVING. Raises grpc.RpcError when it has not in time."""
        self.wait_for_health(service, health_pb2.HealthCheckResponse.SERVING, timeout)

    def wait_for_health(self, service: str, status: int, timeout: float = READY_SECONDS) -> None:
        """Until the gateway's health says this status."""
        stub = self.stub(service, health_pb2_grpc.HealthStub)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=timeout, wait_for_ready=True)
        for answer in watch:
            if answer.status == status:
                watch.cancel()
                return

    def logs(self, lines: int = 60) -> list[tuple[str, str]]:
        """The end of every process's log, by name."""
        return [(process.name, process.tail(lines)) for process in self.processes]

    def __enter__(self) -> Self:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        if self._owns_valkey:
            self.valkey.start()
        self.collector.start()
        running.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.end()
        for channel in self._channels.values():
            channel.close()
        for store in self._stores.values():
            store.close()
        self.collector.stop()
        if self._owns_valkey:
            self.valkey.kill()
        running.discard(self)

    def _named(self, name: str) -> ProcessUnderTest | None:
        return next((process for process in self.processes if process.name == name), None)

    @staticmethod
    def _of(process: ProcessUnderTest, names: Sequence[str]) -> bool:
        return not names or process.name.partition(" ")[0] in names


def metadata_of(operation: operations_pb2.Operation) -> ops.OperationMetadata:
    """The operation's metadata, unpacked."""
    metadata = ops.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def inherited(prefixes: Iterable[str]) -> dict[str, str]:
    """This process's environment without any setting of Waybill's, its services' or OpenTelemetry's."""
    dropped = tuple(f"{prefix}_" for prefix in ("WAYBILL", "OTEL", *prefixes))
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}  # noqa: TID251 (to pass on)


def quiet_port() -> int:
    """A loopback port that nothing listens on and that no outgoing connection and no other caller will be given.

    Processes of pytest-xdist that run side by side take from shares of their own.
    """
    worker, count = (os.environ.get(f"PYTEST_XDIST_WORKER{end}", "") for end in ("", "_COUNT"))  # noqa: TID251 (pytest's)
    share = PORTS[int(worker.removeprefix("gw") or 0) :: int(count or 1)]
    port = next(port for port in random.sample(share, len(share)) if port not in _given and _is_free(port))
    _given.add(port)
    return port


_given: set[int] = set()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) != 0
