"""A service's gateway, and channels to other services' gateways."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from grpc_health.v1 import health_pb2_grpc
from redis.exceptions import RedisError

from chassis import telemetry
from chassis.admission import Admission
from chassis.channels import aio_channel_to, channel_to
from chassis.health import Health, serve_alone
from chassis.logging import get_logger
from chassis.operations import Operations
from chassis.roles import Rule
from chassis.rpc_server import RpcServer
from chassis.settings import ServiceSettings
from chassis.store import AsyncStore
from chassis.termination import termination

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

__all__ = ["Gateway", "aio_channel_to", "channel_to"]

CANNOT_LISTEN: Final = 1
OUTAGE_PAUSE_SECONDS: Final = 0.5

Background: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

log = get_logger()


class Gateway:
    """The gRPC door of a service."""

    def __init__(self, app: ServiceApp, settings: ServiceSettings) -> None:
        self.app = app
        self.settings = settings
        self.store = AsyncStore.connect(app.service, settings.waybill.store_url)
        self.admission = Admission(self.store, high_water=settings.waybill.store_high_water)
        self.operations = Operations(
            self.store,
            app,
            archive=app.archive,
            admission=self.admission,
            replicas=settings.waybill.awaited_replicas,
        )
        # Run beside the server until it has drained; an outage of Redis interrupts them, no more.
        self.background: list[Background] = []
        self._server = RpcServer(app.service, settings.waybill)

    def add(self, register: Callable[[Any, Any], None], servicer: Any, rule: Rule | None = None) -> None:
        """Serve a servicer; `register` is the generated `add_XServicer_to_server`.

        `rule`: for methods whose contract cannot say who may call them; RuleMissingError where neither does.
        """
        self._server.add(register, servicer, rule)

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain; returns the exit code."""
        from chassis.gateway_services import standard_servicers  # noqa: PLC0415 - which takes a Gateway

        for register, servicer in standard_servicers(self):
            self.add(register, servicer)
        health = Health(self.settings.waybill, self._server.services, self._server.edge.authority)
        self.add(health_pb2_grpc.add_HealthServicer_to_server, health.servicer)
        self._server.add_reflection()
        # What is there now stays; collecting it again and again costs a tenth of an acceptance.
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        try:
            return asyncio.run(self._serve(health))
        finally:
            telemetry.shutdown()

    async def _serve(self, health: Health) -> int:
        ended = termination()
        await health.start()
        try:
            await self._server.start(self.settings.listen)
            probes, _ = await serve_alone(health.servicer, self.settings.health_listen)
        except RuntimeError as error:
            log.critical("gateway.cannot_listen", listen=self.settings.listen, error=str(error))
            return CANNOT_LISTEN
        self._announce()
        works = [health.watch, *map(_through_outages, self.background)]
        failed = await _run_beside(works, ended, partial(self._drain, health))
        await probes.stop(None)
        await self.store.close()
        log.info("gateway.drained")
        return int(failed)

    async def _drain(self, health: Health) -> None:
        log.info("gateway.draining")
        await health.drain()
        await self._server.stop(self.settings.waybill.grace_seconds)

    def _announce(self) -> None:
        if self.settings.waybill.insecure:
            log.warning("gateway.insecure", setting="WAYBILL_INSECURE", listen=self.settings.listen)
        log.info("gateway.serving", listen=self.settings.listen, services=self._server.services)


async def _run_beside(works: Sequence[Background], ended: asyncio.Event, drain: Callable[[], Awaitable[None]]) -> bool:
    """Run the works until `ended`, which the failure of one also sets; then drain; whether one has failed."""
    tasks = [asyncio.create_task(work()) for work in works]

    def on_done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("gateway.background_failed", exc_info=task.exception())
            ended.set()

    for task in tasks:
        task.add_done_callback(on_done)
    await ended.wait()
    failed = any(task.done() and task.exception() is not None for task in tasks)
    await drain()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return failed


def _through_outages(work: Background) -> Background:
    """The work, begun anew after each outage of Redis."""

    async def run() -> None:
        while True:
            try:
                return await work()
            except RedisError as error:
                log.warning("gateway.background_waits", work=work.__qualname__, error=str(error))
                await asyncio.sleep(OUTAGE_PAUSE_SECONDS)

    return run
