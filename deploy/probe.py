"""Is the process that this container runs well? Exit code 0 says so; 1 comes with the reason.

What is asked depends on the process, which is read from the command line of process 1:

    gateway                 its own health (grpc.health.v1): Redis within reach, and as durable as set
    worker                  whether its gateway lists a worker on this host that was heard of within 30 s
    scheduler, subscriber   the health of their gateway: they listen nowhere, and it needs what they need
    web                     its own /healthz
    traces                  its own health (grpc.health.v1)

Addresses, certificates and tokens come from the settings that the process itself has. A listener with TLS is asked
over TLS, by its loopback address, which its certificate has to name; <SERVICE>_HEALTH_LISTEN, where it serves, without.
"""

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import grpc

SECONDS = 5.0
SERVICE = os.environ.get("SERVICE", "")


class Unwell(Exception):
    """The reason."""


def main() -> int:
    """Ask, and say why not."""
    try:
        CHECKS[role(Path("/proc/1/cmdline").read_bytes())]()
    except grpc.RpcError as error:
        return _unwell(f"{error.code().name}: {error.details()}")
    except (Unwell, OSError) as error:
        return _unwell(str(error))
    return 0


def role(command_line: bytes) -> str:
    """The first argument that names a process; raises Unwell."""
    for argument in command_line.decode().split("\0"):
        if argument in CHECKS:
            return argument
    raise Unwell(f"process 1 is none of {', '.join(CHECKS)}")


def own_health() -> None:
    """Of the listener for probes, where there is one."""
    if address := os.environ.get(f"{SERVICE.upper()}_HEALTH_LISTEN"):
        _serves(_on_loopback(address), grpc.insecure_channel)
    else:
        _serves(_on_loopback(_setting(f"{SERVICE.upper()}_LISTEN")), _channel)


def health_of_gateway() -> None:
    """Of the service's gateway, by its route."""
    _serves(_gateway(), _channel)


def worker_is_listed() -> None:
    """The host is this container's: a process in it cannot be another's."""
    from waybill.admin.v1 import admin_pb2, admin_pb2_grpc  # noqa: PLC0415 - the other checks do without

    with _channel(_gateway()) as channel:
        answer = admin_pb2_grpc.WorkerServiceStub(channel).ListWorkers(
            admin_pb2.ListWorkersRequest(service=SERVICE), timeout=SECONDS, metadata=_bearer()
        )
    hosts = {worker.host for worker in answer.workers}
    if socket.gethostname() not in hosts:
        raise Unwell(f"the gateway lists no worker on {socket.gethostname()}, only on {sorted(hosts)}")


def page_is_served() -> None:
    """The page asks no gateway: the dashboard is well while one of them is not."""
    address = _on_loopback(_setting("DASHBOARD_LISTEN"))
    connection = (
        http.client.HTTPSConnection(address, timeout=SECONDS, context=_context())
        if _is_tls()
        else http.client.HTTPConnection(address, timeout=SECONDS)
    )
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
    if status != http.HTTPStatus.OK:
        raise Unwell(f"/healthz answers {status}")


def traces_are_received() -> None:
    """Of the receiver's own listener."""
    _serves(_on_loopback(_setting("DASHBOARD_TRACES_LISTEN")), _channel)


CHECKS: dict[str, Callable[[], None]] = {
    "gateway": own_health,
    "worker": worker_is_listed,
    "scheduler": health_of_gateway,
    "subscriber": health_of_gateway,
    "web": page_is_served,
    "traces": traces_are_received,
}


def _serves(address: str, channel_to: Callable[[str], grpc.Channel]) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415 - as above

    with channel_to(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unwell(f"{address} is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")


def _is_tls() -> bool:
    return bool(os.environ.get("WAYBILL_TLS_CERT_FILE"))


def _channel(address: str) -> grpc.Channel:
    if not _is_tls():
        return grpc.insecure_channel(address)
    files = (Path(_setting(f"WAYBILL_TLS_{name}_FILE")) for name in ("CA", "KEY", "CERT"))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*(path.read_bytes() for path in files)))


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=_setting("WAYBILL_TLS_CA_FILE"))
    context.load_cert_chain(_setting("WAYBILL_TLS_CERT_FILE"), _setting("WAYBILL_TLS_KEY_FILE"))
    return context


def _bearer() -> tuple[tuple[str, str], ...]:
    path = os.environ.get("WAYBILL_TOKEN_FILE")
    token = Path(path).read_text(encoding="ascii").strip() if path else os.environ.get("WAYBILL_TOKEN", "")
    return (("authorization", f"Bearer {token}"),) if token else ()


def _gateway() -> str:
    routes = dict(pair.strip().partition("=")[::2] for pair in _setting("WAYBILL_ROUTES").split(","))
    if SERVICE not in routes:
        raise Unwell(f"WAYBILL_ROUTES has no route to {SERVICE}")
    return routes[SERVICE]


def _on_loopback(listen: str) -> str:
    """Where a listener on all interfaces is reached from here."""
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in {"0.0.0.0", "[::]"} else listen  # noqa: S104 - compared, not bound


def _setting(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise Unwell(f"{name} is not set")
    return value


def _unwell(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
