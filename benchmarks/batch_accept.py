"""Batch accept, through a real gateway and by the engine alone, against Celery's `apply_async` in a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import gateways
import grpc
import redis
import sides
from figures import Row, ratio
from processes import output
from waybill.notify.v1 import notify_pb2, notify_pb2_grpc

ITEMS = 500
IN_FLIGHT = 2
#: Items of a round: by the gateway, by the engine alone, and published one by one.
BY_GATEWAY, BY_ENGINE, ONE_BY_ONE = 10_000, 40_000, 2_000


def _batch() -> notify_pb2.BatchSendNotificationsRequest:
    """Mails from a stored template, each with 200 bytes of text of its own."""
    item = notify_pb2.SendNotificationRequest(template_id="bench", recipient_ids=["somebody"])
    item.variables.update({"text": "x" * 200})
    return notify_pb2.BatchSendNotificationsRequest(requests=[item] * ITEMS)


def _prepare(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = notify_pb2_grpc.NotifyServiceStub(channel)
        template = notify_pb2.Template(template_id="bench", subject="News", text="{{ text }}")
        stub.CreateTemplate(notify_pb2.CreateTemplateRequest(template=template))
        email = notify_pb2.EmailChannel(address="somebody@example.org")
        recipient = notify_pb2.Recipient(recipient_id="somebody", channels=[notify_pb2.Channel(email=email)])
        stub.CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=recipient))


async def _by_gateway(address: str, items: int) -> float:
    """Items per second; raises RuntimeError for an item that was not accepted."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = notify_pb2_grpc.NotifyServiceStub(channel)
        request = _batch()
        left = iter(range(items // ITEMS))

        async def client() -> None:
            for _ in left:
                answer = await stub.BatchSendNotifications(request, timeout=60)
                for item in answer.items:
                    if item.HasField("error"):
                        raise RuntimeError(item.error.message)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        return items / (time.perf_counter() - began)


def published(publisher: str, url: str, count: int) -> float:
    """Items per second of a process that publishes so many."""
    return float(output("publish.py", publisher, str(count), BENCH_REDIS_URL=url))


def rows(plan: tuple[int, int | None]) -> Iterator[Row]:
    """Nothing consumes on any side; queues are emptied after each round but the gateway's."""
    count, _ = plan
    gateway_pairs, engine_pairs = [], []
    with gateways.gateway("notify") as address, sides.valkey() as server:
        _prepare(address)
        asyncio.run(_by_gateway(address, 4 * ITEMS))
        for _ in range(count):
            by_gateway = asyncio.run(_by_gateway(address, BY_GATEWAY))
            one_by_one = published("apply_async", server.url, ONE_BY_ONE)
            engine_pairs.append((published("accept_many", server.url, BY_ENGINE), one_by_one))
            gateway_pairs.append((by_gateway, one_by_one))
            redis.Redis.from_url(server.url).flushall()
    yield ratio("BatchSendNotifications of 500 / apply_async in a loop", gateway_pairs, least=15, of="items/s")
    yield ratio("accept_many of 500 / apply_async in a loop", engine_pairs, of="items/s")
