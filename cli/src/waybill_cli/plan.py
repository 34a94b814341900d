"""What a stack on this machine consists of: addresses, environment, processes; decided before anything starts."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from chassis.settings import host_and_port, split_pairs
from chassis.sizing import Policy

from waybill_cli import readiness, settings
from waybill_cli.client import Access, Tls
from waybill_cli.installed import listeners, services
from waybill_cli.processes import ProcessSpec, Stage

OTLP_METRICS_PACKAGE = "opentelemetry.proto.collector.metrics.v1"


class PlanError(Exception):
    """What was asked for contradicts itself."""


@dataclass(frozen=True)
class Plan:
    """One stack. `addresses` holds the listeners that this stack opens, by the names of `listeners`."""

    services: tuple[str, ...]
    addresses: Mapping[str, str]
    state_dir: Path
    environment: Mapping[str, str]
    # None: an embedded Valkey is started.
    redis_url: str | None
    # Of each service, at the start.
    workers: int = 1
    # None: as many workers as at the start, all the time.
    autoscale: Policy | None = None

    @property
    def tls(self) -> Tls | None:
        """How the stack's own listeners are reached; whether the files are right is each process' own check."""
        ca, cert, key = (self.environment.get(f"WAYBILL_TLS_{name}_FILE", "") for name in ("CA", "CERT", "KEY"))
        return Tls(Path(ca), Path(cert), Path(key)) if ca and cert and key else None

    @property
    def access(self) -> Access:
        """As one of the stack's own processes: with WAYBILL_TOKEN or WAYBILL_TOKEN_FILE."""
        return Access(self.tls, settings.token(self.environment), settings.is_insecure(self.environment))

    @property
    def gateway(self) -> str:
        """A gateway through which every service is reached."""
        return self.addresses[self.services[0]]


def make_plan(  # noqa: PLR0913 - one parameter for each option
    environment: Mapping[str, str],
    state_dir: Path,
    *,
    only: Collection[str] = (),
    dashboard: bool = True,
    port_base: int | None = None,
    listen: Mapping[str, str] | None = None,
    workers: int = 1,
    autoscale: Policy | None = None,
) -> Plan:
    """The stack that these options and this environment describe; raises PlanError."""
    if unknown := sorted(set(only) - services().keys()):
        raise PlanError(f"--only {unknown[0]}: expected one or more of {', '.join(services())}")
    chosen = tuple(service for service in services() if not only or service in only)
    if not chosen:
        raise PlanError("no service is installed here")
    opened = [*chosen, *(("dashboard", "traces") if dashboard else ())]
    if not environment.get("WAYBILL_REDIS_URL") and environment.get("WAYBILL_DURABILITY") == "replicated":
        raise PlanError("WAYBILL_DURABILITY=replicated: the embedded Valkey has no replica; set WAYBILL_REDIS_URL")
    if unknown := sorted(set(listen or {}) - listeners().keys()):
        raise PlanError(f"--listen {unknown[0]}: expected one of {', '.join(listeners())}")
    if autoscale is not None and autoscale.min_workers > autoscale.max_workers:
        raise PlanError(f"--min-workers {autoscale.min_workers} is more than --max-workers {autoscale.max_workers}")
    return Plan(
        services=chosen,
        addresses={name: _address(name, environment, port_base, listen or {}) for name in opened},
        state_dir=state_dir,
        environment=environment,
        redis_url=environment.get("WAYBILL_REDIS_URL") or None,
        workers=workers if autoscale is None else autoscale.min_workers,
        autoscale=autoscale,
    )


def clashes(plan: Plan) -> Iterator[str]:
    """A line for every listener that cannot be opened, naming what sets it."""
    seen: dict[str, str] = {}
    for name, address in plan.addresses.items():
        if address in seen:
            yield f"{name} and {seen[address]} would both listen on {address}: set {listeners()[name].variable}"
        elif problem := _why_not(address):
            yield f"{address} {problem}: set {listeners()[name].variable}, --listen {name}=HOST:PORT or --port-base"
        seen[address] = name


def environment_of(plan: Plan, redis_url: str) -> dict[str, str]:
    """The whole environment of the stack's processes."""
    routes = {
        **split_pairs(plan.environment.get("WAYBILL_ROUTES", "")),
        **{service: plan.addresses[service] for service in plan.services},
    }
    if "metrics" in routes:
        routes[OTLP_METRICS_PACKAGE] = "metrics"
    return {
        **plan.environment,
        **{listeners()[name].variable: address for name, address in plan.addresses.items()},
        **_traces(plan),
        "WAYBILL_REDIS_URL": redis_url,
        "WAYBILL_STATE_DIR": str(plan.state_dir),
        "WAYBILL_ROUTES": ",".join(f"{key}={target}" for key, target in routes.items()),
        "PYTHONUNBUFFERED": "1",
    }


def processes(plan: Plan, redis_url: str) -> list[ProcessSpec]:
    """Every process of the stack but Valkey."""
    environment = environment_of(plan, redis_url)
    return [*_of_services(plan, environment), *_of_dashboard(plan, environment)]


def worker_of(plan: Plan, redis_url: str, service: str, number: int) -> ProcessSpec:
    """One more worker of a service, told apart by its number."""
    return _worker(plan, environment_of(plan, redis_url), service, f"worker {number}")


def _of_services(plan: Plan, environment: Mapping[str, str]) -> Iterator[ProcessSpec]:
    for service in plan.services:
        gateway = plan.addresses[service]
        serves = readiness.gateway_serves(gateway, plan.access)
        yield replace(_spec(environment, service, "gateway", Stage.GATEWAY, serves), address=gateway)
        for role in _worker_names(plan):
            yield _worker(plan, environment, service, role)
        for role in services()[service]:
            spec = _spec(environment, service, role, Stage.INTAKE, readiness.runs)
            yield replace(spec, says=f"{role}.started")


def _worker(plan: Plan, environment: Mapping[str, str], service: str, role: str) -> ProcessSpec:
    listed = readiness.worker_is_listed(plan.addresses[service], plan.access)
    return _spec(environment, service, role, Stage.WORKER, listed)


def _spec(environment: Mapping[str, str], service: str, role: str, stage: Stage, check: readiness.Check) -> ProcessSpec:
    command = (sys.executable, "-m", f"{service}_service", role.partition(" ")[0])
    return ProcessSpec(f"{service} {role}", command, environment, stage, check)


def _of_dashboard(plan: Plan, environment: Mapping[str, str]) -> Iterator[ProcessSpec]:
    for name, role, check in _DASHBOARD_PROCESSES:
        if address := plan.addresses.get(name):
            command = (sys.executable, "-m", "dashboard_service", role)
            yield ProcessSpec(
                f"dashboard {role}", command, environment, Stage.DASHBOARD, check(address, plan.access), address=address
            )


_DASHBOARD_PROCESSES: tuple[tuple[str, str, Callable[[str, Access], readiness.Check]], ...] = (
    ("dashboard", "web", readiness.accepts_connections),
    ("traces", "traces", readiness.gateway_serves),
)


def _worker_names(plan: Plan) -> list[str]:
    if plan.workers == 1 and plan.autoscale is None:
        return ["worker"]
    return [f"worker {number}" for number in range(1, plan.workers + 1)]


def _traces(plan: Plan) -> dict[str, str]:
    """Spans go to the stack's own receiver, and are shown from there, unless the environment names another."""
    receiver = plan.addresses.get("traces")
    if receiver is None:
        return {}
    shown = {"DASHBOARD_TRACES_TARGET": receiver}
    if any(name in plan.environment for name in _OTLP_ENDPOINTS):
        return shown
    exported = {**shown, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    if token := plan.access.token:
        exported["OTEL_EXPORTER_OTLP_HEADERS"] = f"authorization=Bearer {token}"
    if plan.tls is None:
        return {**exported, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver}"}
    trusted = {
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(plan.tls.ca_file),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(plan.tls.cert_file),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(plan.tls.key_file),
    }
    return {**exported, **trusted, "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://{receiver}"}


_OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def _address(name: str, environment: Mapping[str, str], port_base: int | None, listen: Mapping[str, str]) -> str:
    known = listeners()[name]
    based = f"127.0.0.1:{port_base + known.offset}" if port_base is not None else None
    address = listen.get(name) or based or environment.get(known.variable) or known.default
    try:
        host_and_port(address)
    except ValueError as error:
        raise PlanError(f"{known.variable} {address}: {error}") from None
    return address


def _why_not(address: str) -> str:
    host, port = host_and_port(address)
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        return "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
    return ""
