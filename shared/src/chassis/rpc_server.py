"""The gRPC server of a gateway: servicers behind the edge, everything else on to its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from chassis import reflection
from chassis.channels import Channels
from chassis.roles import Rule, rule_of
from chassis.routing import Forwarder, Routes
from chassis.rpc_edge import Edge, Handler
from chassis.settings import WaybillSettings

# Below gRPC's own limit a request that is too large is told so by name; 4 MiB is gRPC's default.
MIN_RECEIVE_BYTES: Final = 4 << 20
DRAIN_SECONDS: Final = 0.05

OPTIONS: Final = (
    # Without this two gateways may listen on one port, each serving half of the calls.
    ("grpc.so_reuseport", 0),
    # Clients may ask every ten seconds whether a quiet stream still has a server.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_send_message_length", -1),
)


@dataclass(slots=True)
class _Details(grpc.HandlerCallDetails):
    method: str
    invocation_metadata: Any = ()


class RpcServer(grpc.GenericRpcHandler):
    """Handlers by method; `add` what is served here before `start`."""

    def __init__(self, service: str, waybill: WaybillSettings, *, quiet: bool = False) -> None:
        self.edge = Edge(service, waybill, quiet=quiet)
        self.channels = Channels(waybill)
        self._waybill = waybill
        self._forwarder = Forwarder(self.edge, Routes(service, waybill), self.channels)
        self._handlers: dict[str, Handler] = {}
        self._server: grpc.aio.Server | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def services(self) -> list[str]:
        """Full names of the services that are served here, sorted."""
        return sorted({method.split("/")[1] for method in self._handlers} - {reflection.NAME_V1})

    def add(self, register: Callable[[Any, Any], None], servicer: Any, rule: Rule | None = None) -> None:
        """Serve a servicer; `register` is the generated `add_XServicer_to_server`.

        `rule`: for methods whose contract cannot say who may call them; RuleMissingError where neither does.
        """
        registrar = _Registrar()
        register(servicer, registrar)
        for name, handler in registrar.handlers.items():
            forward = self._forwarder.dispatch(name)
            self._handlers[f"/{name}"] = self.edge.wrap(name, handler, forward, rule or rule_of(name))

    def add_reflection(self) -> None:
        """Describe what is served here and what is forwarded; the last to be added."""
        self.add(*reflection.registration([*self.services, *reflection.public_services(self._waybill)]))
        for name, handler in list(self._handlers.items()):
            if name.startswith(f"/{reflection.NAME}/"):
                self._handlers[name.replace(reflection.NAME, reflection.NAME_V1)] = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """GRPC asks here for the handler of each call."""
        method = handler_call_details.method
        return self._handlers.get(method) or self._forwarder.handler(method.removeprefix("/"))

    async def start(self, address: str) -> int:
        """Listen; returns the port. Raises RuntimeError when the address is taken."""
        limit = max(MIN_RECEIVE_BYTES, 2 * self._waybill.max_payload_bytes)
        options = (*OPTIONS, ("grpc.max_receive_message_length", limit))
        self._server = grpc.aio.server(handlers=(self,), options=options)
        credentials = self._credentials()
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        await self._server.start()
        self._watching = asyncio.create_task(self.edge.watch_credentials())
        return port

    async def stop(self, grace_seconds: float) -> None:
        """Take no new call; let those that run finish, at most so long; then close what was opened."""
        if self._server is not None:
            stopping = asyncio.ensure_future(self._server.stop(grace_seconds))
            while not stopping.done():
                # Calls that were on their way when the door closed still begin.
                self.edge.drain()
                await asyncio.wait([stopping], timeout=DRAIN_SECONDS)
            await stopping
        if self._watching is not None:
            self._watching.cancel()
        await self.channels.close()

    def _credentials(self) -> grpc.ServerCredentials | None:
        waybill = self._waybill
        if not (waybill.tls_cert_file and waybill.tls_key_file and waybill.tls_ca_file):
            return None
        pair = (waybill.tls_key_file.read_bytes(), waybill.tls_cert_file.read_bytes())
        # gRPC for Python either demands a certificate of every caller or asks for none.
        return grpc.ssl_server_credentials(
            [pair],
            root_certificates=waybill.tls_ca_file.read_bytes(),
            require_client_auth=waybill.client_certificates,
        )


class _Registrar:
    """Stands in for a server while generated code registers a servicer."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.handlers.update({f"{service}/{name}": handler for name, handler in handlers.items()})

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.ServiceRpcHandler]) -> None:
        for generic in handlers:
            service = generic.service_name()
            for name in reflection.methods_of(service):
                handler = generic.service(_Details(f"/{service}/{name}"))
                if handler is not None:
                    self.handlers[f"{service}/{name}"] = handler
