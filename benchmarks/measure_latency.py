"""Measures latencies of the no-op service, prints milliseconds as JSON: `python measure_latency.py KIND NUMBER`.

idle NUMBER       accept to begin of so many operations, one every 15 to 35 ms
load NUMBER       accept to begin of so many a second, for four seconds, arriving at random
answers NUMBER    settle to the answer of WaitOperation, while so many others wait for operations that do not end

Begin and settle are the server's times, the answer is the client's: one machine, one clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time

import grpc
from chassis.operations import Operations, Submission
from chassis.store import AsyncStore
from driving import TEXT
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.wrappers_pb2 import StringValue
from noop_service.tasks import app, do_nothing, take_a_while, wait_for_nothing
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

LOAD_SECONDS = 4.0
TICK_SECONDS = 0.01
DRAIN_SECONDS = 1.0
PROBES = 200
PROBE_EVERY_SECONDS = 0.04
WAIT_SECONDS = 300
#: Waiters come one after the other, not in one burst.
ARRIVAL_SECONDS = 0.003


class Bench:
    """One measurement."""

    def __init__(self) -> None:
        self.operations = Operations(AsyncStore.connect("noop", os.environ["BENCH_REDIS_URL"]), app)

    async def idle(self, number: int) -> list[float]:
        """Accepted one by one."""
        names = []
        for _ in range(number):
            names += await self._accept(do_nothing, 1)
            await asyncio.sleep(random.uniform(0.015, 0.035))  # noqa: S311
        return await self._to_begin(names)

    async def load(self, rate: int) -> list[float]:
        """Arrivals are independent; those of one tick are accepted together."""
        names: list[str] = []
        began = time.monotonic()
        due, arrived = 0.0, began
        while (now := time.monotonic()) - began < LOAD_SECONDS:
            size = 0
            while arrived <= now:
                arrived += random.expovariate(rate)
                size += 1
            if size:
                names += await self._accept(do_nothing, size)
            due += TICK_SECONDS
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        return await self._to_begin(names)

    async def answers(self, waiters: int) -> list[float]:
        """Probes take 100 ms, so that each is waited for before it settles."""
        async with grpc.aio.insecure_channel(os.environ["NOOP_LISTEN"]) as channel:
            pause = admin_pb2.PauseQueueRequest(queue="noop.held")
            await admin_pb2_grpc.QueueServiceStub(channel).PauseQueue(pause)
            stub = operations_pb2_grpc.OperationsStub(channel)
            held = []
            for name in await self._accept(wait_for_nothing, waiters):
                held.append(asyncio.ensure_future(_wait(stub, name)))
                await asyncio.sleep(ARRIVAL_SECONDS)
            probes = []
            for _ in range(PROBES):
                (name,) = await self._accept(take_a_while, 1)
                probes.append(asyncio.ensure_future(_answered(stub, name)))
                await asyncio.sleep(PROBE_EVERY_SECONDS)
            found = await asyncio.gather(*probes)
            for waiter in held:
                if waiter.done():
                    raise RuntimeError(f"answered before its end: {waiter.result()}")
            for waiter in held:
                waiter.cancel()
            await asyncio.gather(*held, return_exceptions=True)
            return found

    async def _accept(self, task: object, number: int) -> list[str]:
        submissions = [Submission(task, StringValue(value=TEXT)) for _ in range(number)]
        return [operation.name for operation in await self.operations.accept_many(submissions)]

    async def _to_begin(self, names: list[str]) -> list[float]:
        """Milliseconds, of operations that have begun by then."""
        await asyncio.sleep(DRAIN_SECONDS)
        found = []
        for name in names:
            metadata = _metadata(await self.operations.get(name.rpartition("/")[2]))
            found.append((_us(metadata.attempts[0].begin_time) - _us(metadata.create_time)) / 1000)
        return found


async def _wait(stub: operations_pb2_grpc.OperationsStub, name: str) -> operations_pb2.Operation:
    return await stub.WaitOperation(operations_pb2.WaitOperationRequest(name=name), timeout=WAIT_SECONDS)


async def _answered(stub: operations_pb2_grpc.OperationsStub, name: str) -> float:
    operation = await _wait(stub, name)
    return (time.time_ns() // 1000 - _us(_metadata(operation).end_time)) / 1000


def _metadata(operation: operations_pb2.Operation) -> ops.OperationMetadata:
    metadata = ops.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def _us(stamp: object) -> int:
    return stamp.ToMicroseconds()


async def main() -> None:
    """Measure and print."""
    kind, number = sys.argv[1], int(sys.argv[2])
    bench = Bench()
    measure = {"idle": bench.idle, "load": bench.load, "answers": bench.answers}[kind]
    print(json.dumps(await measure(number)))


if __name__ == "__main__":
    asyncio.run(main())
