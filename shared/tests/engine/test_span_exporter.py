"""The exporter: it follows the log with a cursor, one at a time, through outages, and leaves nothing out."""

import asyncio
import contextlib

import grpc
import pytest
from chassis.event_log import EventLog
from chassis.span_exporter import SpanExporter
from chassis.span_sink import OtelSettings, SpanSink
from chassis.testing.collector import SpanCollector

pytestmark = pytest.mark.anyio


@pytest.fixture
def collector():
    with SpanCollector() as started:
        yield started


@pytest.fixture
def exporter(async_store, collector):
    """`exporter()`: one more, as another gateway of the service has it."""

    def make():
        sink = SpanSink(OtelSettings(exporter_otlp_endpoint=collector.endpoint), "test")
        return SpanExporter("test", async_store, EventLog(async_store), sink)

    return make


@contextlib.asynccontextmanager
async def running(*exporters):
    tasks = [asyncio.create_task(exporter.run()) for exporter in exporters]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def spans_of(collector, ids):
    """Waits until all three spans of each operation are there; everything that arrived, repeats included."""

    def complete(spans):
        seen = [(span.attributes["waybill.operation"].rpartition("/")[2], span.name) for span in spans]
        return {(id_, f"{what} test.q") for id_ in ids for what in ("send", "process", "settle")} <= set(seen)

    await asyncio.to_thread(collector.wait_for, complete, 5)
    return collector.received


def finish(work, count):
    ids = work.accept(count)
    for operation_id in ids:
        work.settle(operation_id, "SUCCEEDED")
    return ids


async def test_what_happened_before_it_started_is_exported_too(exporter, collector, work):
    """The log is what counts, not who was there."""
    ids = finish(work, 3)

    async with running(exporter()):
        await spans_of(collector, ids)

    assert {span.service for span in collector.spans} == {"test"}


async def test_the_next_one_goes_on_from_the_cursor(exporter, collector, work, store):
    """A gateway that takes over exports what is left, not everything again."""
    first = finish(work, 2)
    async with running(exporter()):
        await spans_of(collector, first)
        while not store.client.exists(store.keys.named("spans:cursor")):  # noqa: ASYNC110 (it follows the export)
            await asyncio.sleep(0)
    store.client.delete(store.keys.named("spans:turn"))
    before = len(collector.received)
    second = finish(work, 2)

    async with running(exporter()):
        await spans_of(collector, second)

    assert len(collector.received) - before == 6


async def test_one_of_many_is_active(exporter, collector, work):
    """Two gateways, each span once."""
    async with running(exporter(), exporter(), exporter()):
        received = await spans_of(collector, finish(work, 5))

    assert len(received) == len(collector.spans) == 15


async def test_a_receiver_that_is_away_is_waited_for(exporter, collector, work, monkeypatch):
    """Nothing is left out of what happened meanwhile."""
    monkeypatch.setattr("chassis.span_exporter.RETRY_SECONDS", 0.05)
    collector.refuse(grpc.StatusCode.UNAVAILABLE)
    async with running(exporter()):
        ids = finish(work, 2)
        await asyncio.to_thread(collector.wait_for_refusals, 2)
        ids += finish(work, 2)
        collector.refuse(None)

        await spans_of(collector, ids)


async def test_an_exporter_that_loses_its_turn_during_an_outage_leaves_the_cursor(
    exporter, collector, work, store, monkeypatch
):
    """Whoever has the turn then begins at the last entry that was exported, so nothing is left out."""
    monkeypatch.setattr("chassis.span_exporter.RETRY_SECONDS", 0.05)
    collector.refuse(grpc.StatusCode.UNAVAILABLE)
    ids = finish(work, 2)
    turn = store.keys.named("spans:turn")
    lost = asyncio.create_task(exporter()._export_until_lost())
    await asyncio.to_thread(collector.wait_for_refusals, 1)
    store.client.set(turn, "another gateway")
    collector.refuse(None)
    ids += finish(work, 2)
    await asyncio.wait_for(lost, 20)
    store.client.delete(turn)

    async with running(exporter()):
        await spans_of(collector, ids)


async def test_an_entry_that_cannot_be_projected_stops_nothing(exporter, collector, work, store):
    """One odd entry in the log costs its own spans, not those after it, and not the gateway."""
    store.client.xadd(store.keys.named("events"), {"v": "succeeded", "id": "odd", "out": "1"})
    ids = finish(work, 1)

    async with running(exporter()) as (task,):
        await spans_of(collector, ids)
        assert not task.done()


async def test_without_an_endpoint_nothing_is_exported(async_store):
    """And nobody takes a turn."""
    sink = SpanSink(OtelSettings(exporter_otlp_endpoint="", exporter_otlp_traces_endpoint=""), "test")

    await SpanExporter("test", async_store, EventLog(async_store), sink).run()

    assert await async_store.client.get(async_store.keys.named("spans:turn")) is None
