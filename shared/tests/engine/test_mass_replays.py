"""Many dead letters replayed at once: with a patch, at a rate, without their client, and none twice."""

import asyncio
from types import SimpleNamespace

import pytest
from chassis import store_calls
from chassis.dead_letter_replays import AT_ONCE
from chassis.dead_letters import DeadLetterServicer
from chassis.descriptions import record_of
from chassis.errors import InvalidArgument, ResourceExhausted
from chassis.operations import Operations
from chassis.testing.harness import metadata_of
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from waybill.admin.v1 import admin_pb2
from waybill.reports.v1 import reports_pb2

pytestmark = pytest.mark.anyio

APP = SimpleNamespace(service="test", queue_bound=1000, queues=[])


class Gated(Operations):
    """Accepts replays when the test lets it."""

    def __init__(self, store):
        super().__init__(store, APP)
        self.reached, self.gate, self.accepted = asyncio.Event(), asyncio.Event(), 0
        self.waiting = asyncio.Semaphore(0)

    async def commit(self, items):
        if self.accepted == 1:
            self.reached.set()
            self.waiting.release()
            await self.gate.wait()
        self.accepted += 1
        return await super().commit(items)


@pytest.fixture
def operations(async_store):
    return Operations(async_store, APP)


@pytest.fixture
def servicer(operations):
    return DeadLetterServicer(APP, operations)


def name(operation_id):
    return f"operations/test/{operation_id}"


def packed(message):
    answer = AnyMessage()
    answer.Pack(message)
    return answer


async def replay(servicer, **options):
    answer = await servicer.ReplayDeadLetters(admin_pb2.ReplayDeadLettersRequest(**options), None)
    return {metadata_of(operation).replayed_from: operation for operation in answer.operations}


async def replays(store):
    """How many operations replay another."""
    ids = await store.client.zrange(store.keys.named("ops"), 0, -1)
    records = [record_of(await store.client.hgetall(store.keys.operation(id_.decode()))) for id_ in ids]
    return sum(bool(record.replayed_from) for record in records)


async def test_a_patch_changes_every_payload(servicer, operations, work):
    """Each has effects of its own, and what the patch does not set is the original's."""
    ids = work.fail(2, title="old")
    (other,) = work.fail(reason="DISK_FULL")
    patch = packed(reports_pb2.RenderReportRequest(template_id="standard"))

    found = await replay(servicer, filter="error:broken", payload_patch=patch)

    assert set(found) == set(map(name, ids))
    assert not metadata_of(await operations.get(other)).replayed_by
    for operation in found.values():
        record = record_of(await operations.stored(operation.name.rpartition("/")[2]))
        payload = reports_pb2.RenderReportRequest()
        record.request.Unpack(payload)
        assert (payload.title, payload.template_id) == ("old", "standard")
        assert record.effect_id == record.id


async def test_a_patch_that_does_not_fit_all_replays_none(servicer, async_store, work):
    """All that match are looked at before the first is replayed."""
    work.fail(2)
    (odd,) = work.fail()
    key = async_store.keys.operation(odd)
    record = record_of(await async_store.client.hgetall(key))
    record.request.Pack(Struct())
    await async_store.client.hset(key, "rec", record.SerializeToString())

    with pytest.raises(InvalidArgument) as refused:
        await replay(servicer, payload_patch=packed(reports_pb2.RenderReportRequest(title="new")))

    assert [violation.field for violation in refused.value.violations] == ["payload_patch"]
    assert await replays(async_store) == 0


async def test_a_mass_replay_goes_on_without_its_client(async_store, work):
    """Whoever calls again while it runs finds the rest; together they replay each once."""
    work.fail(5)
    gated = Gated(async_store)
    servicer = DeadLetterServicer(APP, gated)
    call = asyncio.create_task(replay(servicer))
    await asyncio.wait_for(gated.reached.wait(), 30)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    again = await replay(DeadLetterServicer(APP, Operations(async_store, APP)))
    (running,) = servicer.replays._running
    gated.gate.set()
    first = await asyncio.wait_for(running, 30)

    assert len(again) + len(first.operations) == await replays(async_store) == 5
    assert len(again) == 4


async def test_a_gateway_that_ends_ends_its_mass_replays(async_store, work):
    """What is left is replayed by the same call to another gateway."""
    work.fail(3)
    gated = Gated(async_store)
    servicer = DeadLetterServicer(APP, gated)
    beside = asyncio.create_task(servicer.replays.run())
    call = asyncio.create_task(replay(servicer))
    await asyncio.wait_for(gated.reached.wait(), 30)

    beside.cancel()
    await asyncio.gather(beside, call, return_exceptions=True)

    assert call.cancelled()
    assert await replays(async_store) == 1
    assert len(await replay(DeadLetterServicer(APP, Operations(async_store, APP)))) == 2


async def test_what_was_discarded_or_deleted_meanwhile_is_passed_over(async_store, work):
    """The list was made before."""
    first, second, third, fourth = work.fail(4)
    gated = Gated(async_store)
    servicer = DeadLetterServicer(APP, gated)
    call = asyncio.create_task(replay(servicer, rate=1000))
    await asyncio.wait_for(gated.reached.wait(), 30)
    await async_store.run(store_calls.delete([third]))
    await servicer.DiscardDeadLetter(admin_pb2.DiscardDeadLetterRequest(operation=name(fourth)), None)
    gated.gate.set()

    found = await asyncio.wait_for(call, 30)

    assert set(found) == {name(first), name(second)}


async def test_mass_replays_of_a_gateway_are_bounded(async_store, work):
    """They outlive their clients, so their number is bounded: RESOURCE_EXHAUSTED, to be tried again."""
    work.fail(2)
    gated = Gated(async_store)
    gated.accepted = 1
    servicer = DeadLetterServicer(APP, gated)
    calls = [asyncio.create_task(replay(servicer)) for _ in range(AT_ONCE)]
    for _ in calls:
        await asyncio.wait_for(gated.waiting.acquire(), 30)

    with pytest.raises(ResourceExhausted) as refused:
        await replay(servicer)

    assert refused.value.reason == "TOO_MANY_REPLAYS"
    gated.gate.set()
    found = await asyncio.wait_for(asyncio.gather(*calls), 60)
    assert sum(map(len, found)) == await replays(async_store) == 2
