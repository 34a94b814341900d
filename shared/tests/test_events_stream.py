"""A stream of events says that it lives, whatever it leaves out."""

import asyncio
import itertools

import pytest
from chassis import events
from chassis.events import EventServicer
from waybill.events.v1 import events_pb2


class Entry:
    """One entry of an event log: its position is its type's."""

    def __init__(self, kind, number):
        self.kind = kind
        self.cursor = str(number)

    def type_of(self, _service):
        return self.kind

    def event(self, _service):
        return events_pb2.Event(type=self.kind)


class Log:
    """Entries of one type for ever, without a pause between them."""

    def __init__(self, kind):
        self.kind = kind

    async def end(self):
        return "0"

    async def follow(self, _cursor, *, patience):
        for number in itertools.count(1):
            await asyncio.sleep(0)
            yield Entry(self.kind, number)


async def first(count, log, *types):
    stream = EventServicer("reports", log).Subscribe(events_pb2.SubscribeRequest(types=types), None)
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
