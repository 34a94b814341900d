"""How one can tell from outside that a process of the stack works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc

from waybill_cli.client import OPEN, Access, open_channel

_CALL_SECONDS = 2.0
Check = Callable[[int], Awaitable[bool]]


def gateway_serves(address: str, access: Access = OPEN) -> Check:
    """The gateway's own grpc.health.v1 says SERVING."""

    async def check(_pid: int) -> bool:
        async with open_channel(address, access) as channel:
            with suppress(grpc.RpcError):
                stub = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_SECONDS)
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        return False

    return check


def worker_is_listed(gateway: str, access: Access = OPEN) -> Check:
    """The service's gateway lists a worker of this pid."""

    async def check(pid: int) -> bool:
        async with open_channel(gateway, access) as channel:
            with suppress(grpc.RpcError):
                stub = admin_pb2_grpc.WorkerServiceStub(channel)
                answer = await stub.ListWorkers(admin_pb2.ListWorkersRequest(), timeout=_CALL_SECONDS)
                return any(worker.pid == pid for worker in answer.workers)
        return False

    return check


def accepts_connections(address: str, _access: Access = OPEN) -> Check:
    """Something listens there."""
    host, _, port = address.rpartition(":")

    async def check(_pid: int) -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CALL_SECONDS):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.close()
                return True
        return False

    return check


async def runs(_pid: int) -> bool:
    """It has been started; such a process tells nobody more than that."""
    return True
