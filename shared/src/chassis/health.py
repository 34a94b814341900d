"""Health of a gateway (grpc.health.v1): serving is Redis within reach and as durable as WAYBILL_DURABILITY says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from chassis import durability
from chassis.authority import Authority
from chassis.logging import get_logger
from chassis.redis_asyncio import open_client
from chassis.settings import WaybillSettings

POLL_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 2.0
#: "1" where WAYBILL_INSECURE is set.
INSECURE_KEY: Final = "waybill-insecure"
#: "stale" where the tokens in force are not those of the file, because it cannot be read.
TOKENS_KEY: Final = "waybill-tokens"

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

log = get_logger()


class HealthServicer(health.aio.HealthServicer):  # type: ignore[misc]
    """Stock health, whose answers say in trailing metadata what an operator should know of who may come in."""

    def __init__(self, remarks: Callable[[], Sequence[tuple[str, str]]]) -> None:
        super().__init__()
        self._remarks = remarks

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        if remarks := self._remarks():
            context.set_trailing_metadata(tuple(remarks))
        return await super().Check(request, context)


class Health:
    """Watches Redis and says so for every service of the gateway, and for ""."""

    def __init__(self, waybill: WaybillSettings, services: Iterable[str], authority: Authority | None = None) -> None:
        self.servicer = HealthServicer(self._remarks)
        self._authority = authority
        self._waybill = waybill
        #: What was wrong with the server's configuration when it was last seen.
        self._found: list[str] = []
        self._services = ("", *services)
        self._reason: str | None = "not looked at yet"
        self._client = open_client(
            waybill.store_url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=None,
            decode_responses=True,
            # With them on, redis-py takes a connection that the server has closed for a sound one.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )

    async def watch(self) -> None:
        """Look each second; runs until it is cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connection that `look` opened."""
        await self._client.aclose()

    async def look(self) -> None:
        """Look once, and say what has changed."""
        reason = await self._why_not_serving()
        if reason != self._reason:
            status = "NOT_SERVING" if reason else "SERVING"
            log.info("health.changed", status=status, reason=reason)
        self._reason = reason
        await self._say(_NOT_SERVING if reason else _SERVING)

    async def drain(self) -> None:
        """NOT_SERVING from now on."""
        await self.servicer.enter_graceful_shutdown()

    async def start(self) -> None:
        """NOT_SERVING until Redis has been seen."""
        await self._say(_NOT_SERVING)

    def _remarks(self) -> list[tuple[str, str]]:
        """What is wrong with the file of tokens is for the log: anybody may ask for health."""
        insecure = [(INSECURE_KEY, "1")] if self._waybill.insecure else []
        stale = [(TOKENS_KEY, "stale")] if self._authority and self._authority.problem else []
        return insecure + stale

    async def _say(self, status: Any) -> None:
        for service in self._services:
            await self.servicer.set(service, status)

    async def _why_not_serving(self) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._client.ping()
                return await self._why_not_durable()
        except (RedisError, OSError, TimeoutError) as error:
            return f"redis: {type(error).__name__}: {error}"

    async def _why_not_durable(self) -> str:
        configuration = await self._client.config_get(*durability.CONFIGURATION)
        replication = await self._client.info("replication") if self._waybill.awaited_replicas else {}
        found = durability.shortcomings(self._waybill, configuration, durability.online_replicas(replication))
        if found != self._found:
            durability.say(self._waybill, found)
        self._found = found
        return f"WAYBILL_DURABILITY={self._waybill.durability}: {'; '.join(found)}" if found else ""


async def serve_alone(servicer: HealthServicer, address: str) -> tuple[grpc.aio.Server, int]:
    """Serve health and nothing else, without TLS, for probes; the server and its port.

    An empty address serves nobody. Raises RuntimeError when the address is taken.
    """
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(address) if address else 0
    await server.start()
    return server, port
