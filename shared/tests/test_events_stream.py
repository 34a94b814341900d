"""A stream of events says that it lives, whatever it leaves out."""

import asyncio
import itertools

import pytest
from chassis import events
from chassis.errors import InvalidArgument
from chassis.events import EventServicer
from google.protobuf.duration_pb2 import Duration
from waybill.events.v1 import events_pb2


class Entry:
    """One entry of an event log: its position is its type's."""

    def __init__(self, kind, number):
        self.kind = kind
        self.cursor = str(number)

    def type_of(self, _service):
        return self.kind

    def write(self, _service, event):
        event.type = self.kind
        event.data.value = b"12345678"


class Log:
    """Entries of one type for ever, so many at once, without a pause between them."""

    def __init__(self, kind, at_once=1):
        self.kind = kind
        self.at_once = at_once

    async def end(self):
        return "0"

    async def follow(self, _cursor, *, patience, min_interval):
        for number in itertools.count(1, self.at_once):
            await asyncio.sleep(0)
            yield [Entry(self.kind, each) for each in range(number, number + self.at_once)]


async def first(count, log, *types, **asked):
    stream = EventServicer("reports", log).Subscribe(events_pb2.SubscribeRequest(types=types, **asked), None)
    answers = [answer async for _, answer in _counted(stream, count)]
    await stream.aclose()
    return answers


async def _counted(stream, count):
    for number in range(count):
        yield number, await anext(stream)


@pytest.mark.timeout(10)
def test_a_stream_of_unwanted_events_still_has_a_heartbeat(monkeypatch):
    """A subscriber to a rare event must not take a busy publisher for a dead one; its cursor moves on."""
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.01)

    opening, *heartbeats = asyncio.run(first(3, Log("waybill.reports.operation.began"), "waybill.reports.report.*"))

    assert opening.cursor == "0"
    assert not any(heartbeat.HasField("event") for heartbeat in heartbeats)
    assert 0 < int(heartbeats[0].cursor) < int(heartbeats[1].cursor)


def test_wanted_events_need_no_heartbeat():
    """Every answer after the first carries an event."""
    _, *answers = asyncio.run(first(4, Log("waybill.reports.report.completed"), "waybill.reports.report.*"))

    assert [answer.cursor for answer in answers] == ["1", "2", "3"]
    assert all(answer.HasField("event") for answer in answers)


def test_with_an_interval_what_came_within_it_is_one_answer():
    """Each event with its cursor; the answer's own is that of the last, so that it is where to go on."""
    log = Log("waybill.reports.report.completed", at_once=3)

    opening, first_batch, second_batch = asyncio.run(first(3, log, min_interval=Duration(nanos=1)))

    assert not opening.batch
    assert [each.cursor for each in first_batch.batch] == ["1", "2", "3"]
    assert all(each.event.type == log.kind for each in first_batch.batch)
    assert first_batch.cursor == "3"
    assert not first_batch.HasField("event")
    assert second_batch.cursor == "6"


def test_a_batch_is_never_larger_than_a_client_takes(monkeypatch):
    """What would be more is several answers."""
    log = Log("waybill.reports.report.completed", at_once=4)
    monkeypatch.setattr(events, "BATCH_BYTES", 2 * events.ATTRIBUTES_BYTES)

    _, *answers = asyncio.run(first(3, log, min_interval=Duration()))

    assert [[each.cursor for each in answer.batch] for answer in answers] == [["1", "2"], ["3", "4"]]
    assert [answer.cursor for answer in answers] == ["2", "4"]


def test_a_log_that_grows_beside_what_is_wanted_leaves_no_empty_batch():
    """Heartbeats alone are without events."""
    log = Log("waybill.reports.operation.began", at_once=3)

    async def answers():
        stream = EventServicer("reports", log).Subscribe(
            events_pb2.SubscribeRequest(types=["waybill.reports.report.*"], min_interval=Duration()), None
        )
        await anext(stream)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.2)

    asyncio.run(answers())


def test_everything_that_is_wrong_with_a_subscription_is_said_at_once():
    """The cursor and the interval."""
    with pytest.raises(InvalidArgument) as raised:
        asyncio.run(first(1, Log("x"), cursor="x", min_interval=Duration(seconds=6)))

    assert [violation.field for violation in raised.value.violations] == ["cursor", "min_interval"]


@pytest.mark.parametrize("interval", [Duration(seconds=-1), Duration(nanos=-1), Duration(seconds=5, nanos=1)])
def test_an_interval_lies_between_nothing_and_five_seconds(interval):
    """INVALID_ARGUMENT on the field."""
    with pytest.raises(InvalidArgument) as raised:
        asyncio.run(first(1, Log("x"), min_interval=interval))

    assert [violation.field for violation in raised.value.violations] == ["min_interval"]
