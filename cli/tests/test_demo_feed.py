"""The demo's feed holds every event, and waits for what may have happened already."""

import asyncio
import functools

import grpc
import pytest
from waybill.events.v1 import events_pb2
from waybill_cli.demo.feed import Feed, OperationFailedError
from waybill_client import WaybillError, aio


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


def anything(_data):
    return True


@in_a_loop
async def test_an_event_that_came_before_one_waited_is_found(gateway):
    """Nothing is missed between two steps of the story."""
    async with aio.connect(gateway.address) as client, Feed(client, ["reports"]) as feed:
        kind = "waybill.reports.operation.succeeded"
        await feed.first(kind, events_pb2.OperationChanged, anything)

        event, change = await feed.first(kind, events_pb2.OperationChanged, anything)

    assert event.type == kind
    assert change.operation == gateway.NAME


@in_a_loop
async def test_an_operation_that_fails_ends_the_wait_for_what_will_not_come(gateway):
    """The error names the operation instead of a limit that passed."""
    gateway.streams = [[gateway.a_change("failed")]]

    async with aio.connect(gateway.address) as client, Feed(client, ["reports"]) as feed:
        with pytest.raises(OperationFailedError, match=f"{gateway.NAME} .reports.render_report. FAILED"):
            await feed.first("waybill.reports.report.completed", events_pb2.OperationChanged, anything)


@in_a_loop
async def test_a_stream_that_cannot_be_opened_is_an_error_at_once(gateway):
    """A gateway that refuses the subscription is not waited for."""
    async with aio.connect(gateway.address) as client:
        with pytest.raises(WaybillError) as refused:
            await Feed(client, ["reports", "no such service"]).__aenter__()

    assert refused.value.code is grpc.StatusCode.NOT_FOUND
