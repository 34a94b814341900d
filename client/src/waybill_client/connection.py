"""How a gateway is reached: address, TLS, deadlines, what is tried again, and how long an outage is sat out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from waybill_client import contracts
from waybill_client.bearer import crosses_a_network
from waybill_client.errors import WaybillError

CALL_TIMEOUT = timedelta(seconds=10)
PATIENCE = timedelta(minutes=1)

# Methods that may be sent twice: those that read, and those whose second time changes nothing.
_REPEATABLE = re.compile(r"(Get|List|Query|Preview|Wait|Subscribe|Watch|Cancel|Pause|Resume|Purge|Drain|Set)")
_OPERATIONS = ("GetOperation", "ListOperations", "WaitOperation", "CancelOperation")
_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    # CANCELLED, without a word: a call that reached a gRPC server in the instant of its shutdown and did not begin.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
# A gateway that comes back is found within two seconds; one that vanished without a word is noticed within forty.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 1),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the authority that is trusted, and the certificate and key by which this side is known.

    Attributes:
        ca_file: None: the authorities that gRPC trusts by itself.
        cert_file: with key_file; None: this side shows none.
        key_file: its key.
        server_name: the name in the gateway's certificate, where it is not the address' host.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises OSError for a file that cannot be read."""
        files = (self.ca_file, self.key_file, self.cert_file)
        return grpc.ssl_channel_credentials(*(path.read_bytes() if path else None for path in files))


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one connection.

    Attributes:
        address: `host:port` of any gateway; it reaches the other services.
        tls: None: without.
        timeout: of each call; waiting and following take as long as they take.
        patience: how long waiting and following go on while the gateway cannot be reached; None: for ever.
        on_outage: told once of each outage, when it begins.
        token: sent with every call; empty: none.
        plaintext: the token may cross a network without TLS.

    Raises:
        ValueError: the token would cross a network without TLS.
    """

    address: str
    tls: Tls | None = None
    timeout: timedelta = CALL_TIMEOUT
    patience: timedelta | None = PATIENCE
    on_outage: Callable[[WaybillError], object] | None = None
    token: str = field(default="", repr=False)
    plaintext: bool = False

    def __post_init__(self) -> None:
        if self.token and self.tls is None and not self.plaintext and crosses_a_network(self.address):
            raise ValueError(f"a token is not sent to {self.address} without TLS")

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Of the channel: reconnection, keepalive and the retry policy."""
        named = [("grpc.ssl_target_name_override", self.tls.server_name)] if self.tls and self.tls.server_name else []
        return [*_OPTIONS, ("grpc.service_config", service_config()), *named]


@cache
def service_config() -> str:
    """The retry policy: four tries for methods that read, repeat harmlessly, or have a request_id."""
    own = (
        {"service": method.containing_service.full_name, "method": method.name}
        for method in _methods()
        if _REPEATABLE.match(method.name) or "request_id" in method.input_type.fields_by_name
    )
    standard = ({"service": "google.longrunning.Operations", "method": name} for name in _OPERATIONS)
    return json.dumps({"methodConfig": [{"name": [*standard, *own], "retryPolicy": _RETRY}]})


def _methods() -> Iterator[MethodDescriptor]:
    for service in contracts.services():
        yield from contracts.methods(service, streaming=True).values()
