"""Real gateways of the services, and when they answer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
from chassis.embedded import EmbeddedValkey
from processes import free_port, running, until


@contextlib.contextmanager
def gateway(service: str) -> Iterator[str]:
    """The address of a service's gateway on a Valkey of its own, spans exported."""
    port, spans = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder) / "valkey") as valkey:
        environment = {
            "WAYBILL_REDIS_URL": valkey.url,
            "WAYBILL_STATE_DIR": folder,
            f"{service.upper()}_LISTEN": f"127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{spans}",
        }
        with (
            running("span_receiver.py", str(spans)),
            running("-m", f"{service}_service", "gateway", **environment),
        ):
            yield answering(port)


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """The address of the bare server."""
    port = free_port()
    with running("echo_server.py", str(port)):
        yield answering(port)


def answering(port: int) -> str:
    """The address, once a gRPC server answers there."""
    address = f"127.0.0.1:{port}"
    until(lambda: _answers(address), f"{address} to answer", every=0.1)
    return address


def _answers(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(0.5)
        except grpc.FutureTimeoutError:
            return False
        return True
