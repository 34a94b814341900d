"""`waybill up --autoscale`: workers of each service are added and drained as `chassis.sizing` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import grpc
from chassis.sizing import Load, Memory, Policy, decide
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc

from waybill_cli.client import open_channel
from waybill_cli.processes import Status
from waybill_cli.stack import Stack
from waybill_cli.views import StackView

LOOK_SECONDS = 1.0
_CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What a gateway says of its service."""

    load: Load
    # Attempts that a worker runs at a time, on average; 0 while there is none.
    slots: int
    # What each worker holds, by its pid.
    held: Mapping[int, int]


async def autoscale(stack: Stack, view: StackView, policy: Policy) -> None:
    """Keep the workers of every service of the stack as many as they should be, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for service in stack.plan.services:
            group.create_task(_scale(stack, service, view, policy), name=f"autoscale {service}")


async def _scale(stack: Stack, service: str, view: StackView, policy: Policy) -> None:
    memory = Memory()
    async with open_channel(stack.plan.addresses[service], stack.plan.access) as channel:
        while True:
            # Of a gateway that does not answer nothing is known, so nothing is done.
            with suppress(grpc.RpcError):
                seen = await look(channel, service)
                policy = replace(policy, slots=seen.slots or policy.slots)
                workers = stack.workers(service)
                decision = decide(seen.load, len(workers), memory, policy, asyncio.get_running_loop().time())
                memory = decision.memory
                if decision.workers != len(workers):
                    view.say("stack.scaled", change(service, len(workers), decision.workers, seen.load))
                    _carry_out(stack, service, workers, decision.workers, seen)
            await asyncio.sleep(LOOK_SECONDS)


def _carry_out(stack: Stack, service: str, workers: Sequence[Status], wanted: int, seen: Sight) -> None:
    for _ in range(wanted - len(workers)):
        stack.add_worker(service)
    for status in least_held(workers, seen.held)[: max(0, len(workers) - wanted)]:
        stack.retire(status)


async def look(channel: grpc.aio.Channel, service: str) -> Sight:
    """Raises grpc.RpcError."""
    queues = admin_pb2_grpc.QueueServiceStub(channel)
    workers = admin_pb2_grpc.WorkerServiceStub(channel)
    queued = await queues.ListQueues(admin_pb2.ListQueuesRequest(service=service), timeout=_CALL_SECONDS)
    answer = await workers.ListWorkers(admin_pb2.ListWorkersRequest(service=service), timeout=_CALL_SECONDS)
    working = [worker for worker in answer.workers if not worker.draining]
    slots = round(sum(worker.concurrency for worker in working) / len(working)) if working else 0
    return Sight(load_of(queued.queues), slots, {worker.pid: len(worker.operations) for worker in answer.workers})


def load_of(queues: Iterable[admin_pb2.Queue]) -> Load:
    """What there is to do. What waits in a paused queue does not count: no worker could take it."""
    queues = tuple(queues)
    open_ones = [queue for queue in queues if not queue.paused]
    return Load(
        depth=sum(queue.depth for queue in open_ones),
        in_flight=sum(queue.in_flight for queue in queues),
        oldest_age=max((queue.oldest_age.ToTimedelta() for queue in open_ones), default=timedelta()),
    )


def least_held(workers: Sequence[Status], held: Mapping[int, int]) -> list[Status]:
    """In the order in which they are drained: those not up yet, then by what they hold; of equals the newest."""
    newest_first = reversed(workers)
    return sorted(newest_first, key=lambda status: held.get(status.pid or 0, -1))


def change(service: str, before: int, after: int, load: Load) -> str:
    """`metrics: 1 -> 2 workers; 4,812 due, 40 in flight, the oldest for 3 s`."""
    said = f"{service}: {before} -> {after} workers; {load.depth:,} due, {load.in_flight:,} in flight"
    return f"{said}, the oldest for {load.oldest_age.total_seconds():.0f} s" if load.depth else said
