"""QueueService and WorkerService: seeing and steering the queues and workers of a service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from grpc import aio
from kombu.exceptions import OperationalError
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

from chassis import store_calls
from chassis.contract import contract_hash, version_of
from chassis.descriptions import timestamp
from chassis.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound, Unavailable
from chassis.queue_facts import QueueFacts, queue_facts
from chassis.store import AsyncStore
from chassis.telemetry import now_us

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

#: A worker that has not been heard of for so long is shown no more.
WORKER_GONE: Final = timedelta(seconds=30)
MAX_CONCURRENCY: Final = 1_000
#: How long a worker may take to say that it has done what it was told to.
ANSWER_SECONDS: Final = 3.0
PURGE_CHUNK: Final = 500
PRIORITIES: Final = (ops.PRIORITY_LOW, ops.PRIORITY_NORMAL, ops.PRIORITY_HIGH)


class QueueServicer(admin_pb2_grpc.QueueServiceServicer):
    """List, pause, resume, purge."""

    def __init__(self, app: ServiceApp, store: AsyncStore) -> None:
        self._names = [queue.name for queue in app.queues]
        self._store = store

    async def ListQueues(
        self, request: admin_pb2.ListQueuesRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListQueuesResponse:
        facts = await queue_facts(self._store, self._names)
        return admin_pb2.ListQueuesResponse(queues=[describe_queue(name, facts[name]) for name in self._names])

    async def PauseQueue(
        self, request: admin_pb2.PauseQueueRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.Queue:
        self._check(request.queue)
        await self._store.run(store_calls.write("SADD", "paused", request.queue))
        return await self._one(request.queue)

    async def ResumeQueue(
        self, request: admin_pb2.ResumeQueueRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.Queue:
        self._check(request.queue)
        await self._store.client.srem(self._store.keys.named("paused"), request.queue)
        await self._store.run(store_calls.write("RPUSH", f"bell:{request.queue}", "1"))
        return await self._one(request.queue)

    async def PurgeQueue(
        self, request: admin_pb2.PurgeQueueRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.PurgeQueueResponse:
        self._check(request.queue)
        cancelled = 0
        for priority in PRIORITIES:
            key = self._store.keys.queue(request.queue, priority)
            while ids := [member.decode() for member in await self._store.client.zrange(key, 0, PURGE_CHUNK - 1)]:
                answers = await self._store.run(store_calls.cancel(ids))
                cancelled += sum(answer.verdict == "cancelled" for answer in answers)
                await self._store.client.zrem(key, *ids)
        return admin_pb2.PurgeQueueResponse(cancelled=cancelled)

    async def _one(self, name: str) -> admin_pb2.Queue:
        return describe_queue(name, (await queue_facts(self._store, [name]))[name])

    def _check(self, name: str) -> None:
        if not name:
            raise InvalidArgument([FieldViolation("queue", "is required")])
        if name not in self._names:
            raise NotFound(f"there is no queue {name}", reason="QUEUE_NOT_FOUND", metadata={"queue": name})


def describe_queue(name: str, facts: QueueFacts) -> admin_pb2.Queue:
    """A queue as clients see it."""
    queue = admin_pb2.Queue(
        name=name,
        depth=facts.depth,
        depth_low=facts.depth_low,
        depth_normal=facts.depth_normal,
        depth_high=facts.depth_high,
        waiting=facts.waiting,
        in_flight=facts.in_flight,
        paused=facts.paused,
        accept_rate=facts.accept_rate,
        settle_rate=facts.settle_rate,
        parked_operations=facts.parked_operations,
        parked_messages=facts.parked_messages,
    )
    if facts.depth:
        queue.oldest_age.FromMicroseconds(max(0, now_us() - facts.oldest_us))
    return queue


class WorkerServicer(admin_pb2_grpc.WorkerServiceServicer):
    """List, resize and drain workers, over Celery's remote control."""

    def __init__(self, app: ServiceApp, store: AsyncStore) -> None:
        self._app = app
        self._store = store

    async def ListWorkers(
        self, request: admin_pb2.ListWorkersRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.ListWorkersResponse:
        return admin_pb2.ListWorkersResponse(
            workers=[self._compared(worker) for worker in await living_workers(self._store)],
            gateway_version=version_of(self._app.service),
            gateway_contract_hash=self._contract,
        )

    async def SetConcurrency(
        self, request: admin_pb2.SetConcurrencyRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.Worker:
        """What runs goes on to its end: a pool that shrinks waits for it."""
        if not 1 <= request.concurrency <= MAX_CONCURRENCY:
            raise InvalidArgument([FieldViolation("concurrency", f"must be from 1 to {MAX_CONCURRENCY:,}")])
        worker = await self._one(request.worker)
        if worker.pool == "solo":
            raise FailedPrecondition("a solo pool runs one attempt at a time", reason="POOL_NOT_RESIZABLE")
        if worker.draining:
            raise FailedPrecondition("the worker drains", reason="WORKER_DRAINING")
        answers = await self._tell(
            worker, "set_concurrency", arguments={"concurrency": request.concurrency}, reply=True
        )
        if not answers:
            raise Unavailable(
                "the worker has not answered; whether it heard is unknown",
                reason="WORKER_SILENT",
                retry_after=timedelta(seconds=ANSWER_SECONDS),
            )
        if "error" in answers[0]:
            raise FailedPrecondition(str(answers[0]["error"]), reason="POOL_NOT_RESIZABLE")
        worker.concurrency = request.concurrency
        return worker

    async def DrainWorker(
        self, request: admin_pb2.DrainWorkerRequest, context: aio.ServicerContext[Any, Any]
    ) -> admin_pb2.Worker:
        """Celery's warm shutdown: takes nothing any more, ends when its attempts have."""
        worker = await self._one(request.worker)
        await self._tell(worker, "shutdown")
        worker.draining = True
        return worker

    async def _tell(self, worker: admin_pb2.Worker, command: str, **options: Any) -> list[Mapping[str, Any]]:
        """What the worker answers; nothing where no answer is asked for, or none came in time."""
        options = {"limit": 1, "timeout": ANSWER_SECONDS, **options} if options else {}
        node = node_name(self._app.service, worker)
        try:
            answers = await asyncio.to_thread(self._app.control.broadcast, command, destination=[node], **options)
        except OperationalError as error:
            raise Unavailable(
                "the workers are out of reach", reason="STORE_UNAVAILABLE", retry_after=timedelta(seconds=1)
            ) from error
        return [answer for named in answers or () for answer in named.values()]

    @cached_property
    def _contract(self) -> str:
        return contract_hash(self._app)

    def _compared(self, worker: admin_pb2.Worker) -> admin_pb2.Worker:
        worker.contract_differs = worker.contract_hash != self._contract
        return worker

    async def _one(self, name: str) -> admin_pb2.Worker:
        if not name:
            raise InvalidArgument([FieldViolation("worker", "is required")])
        for worker in await living_workers(self._store):
            if worker.name == name:
                return worker
        raise NotFound(f"there is no worker {name}", reason="WORKER_NOT_FOUND", metadata={"worker": name})


async def living_workers(store: AsyncStore) -> list[admin_pb2.Worker]:
    """Those that were heard of; the others are forgotten."""
    stored: Mapping[bytes, bytes] = await store.client.hgetall(store.keys.named("workers"))
    oldest = now_us() - WORKER_GONE // timedelta(microseconds=1)
    found = [describe_worker(name.decode(), json.loads(facts)) for name, facts in sorted(stored.items())]
    living = [worker for worker in found if worker.heartbeat_time.ToMicroseconds() >= oldest]
    gone = {worker.name for worker in found} - {worker.name for worker in living}
    if gone:
        await store.client.hdel(store.keys.named("workers"), *gone)
    return living


def describe_worker(name: str, facts: Mapping[str, Any]) -> admin_pb2.Worker:
    """A worker as clients see it, from its heartbeat."""
    return admin_pb2.Worker(
        name=name,
        host=facts["host"],
        pid=facts["pid"],
        pool=facts["pool"],
        concurrency=facts["concurrency"],
        queues=facts["queues"],
        operations=[f"operations/{name.partition('@')[0]}/{operation}" for operation in facts["operations"]],
        memory_bytes=facts["memory_bytes"],
        version=facts["version"],
        start_time=timestamp(facts.get("start_us", 0)),
        heartbeat_time=timestamp(facts["heartbeat_us"]),
        draining=facts["draining"],
        tasks=facts["tasks"],
        contract_hash=facts.get("contract", ""),
    )


def node_name(service: str, worker: admin_pb2.Worker) -> str:
    """The name by which Celery's remote control knows the worker."""
    return f"{service}-{worker.pid}@{worker.host}"
