"""The subscriber, with a real Valkey and a real publisher on loopback: each event has its effect once."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
import redis
import redis.asyncio
from chassis import subscriber as subscribing
from chassis.embedded import EmbeddedValkey
from chassis.errors import OutOfRange, Unavailable
from chassis.operations import Submission
from chassis.retries import RetryPolicy
from chassis.rpc_server import RpcServer
from chassis.settings import ServiceSettings, WaybillSettings
from chassis.subscriber import Subscriber, by_publisher
from chassis.worker import Attempt, QueueSpec, ServiceApp
from google.protobuf.wrappers_pb2 import StringValue
from pydantic_settings import SettingsConfigDict
from sqlalchemy.exc import OperationalError
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.store.v1 import store_pb2

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT = "waybill.yard.crate.sent"
CURSORS = "wb:{depot}:subscriber:crates"

app = ServiceApp("depot", queues=[QueueSpec("depot.default", tasks=["depot.*"])])


@app.task(name="depot.receive_crate", policy=RetryPolicy())
def receive_crate(attempt: Attempt, request: StringValue) -> None:
    """Never runs here: acceptance is what is looked at."""


class DepotSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="DEPOT_")

    listen: str = "127.0.0.1:0"


class Yard(events_pb2_grpc.EventServiceServicer):
    """A publisher: each subscription gets everything after its cursor, the position in the list."""

    def __init__(self):
        self.events, self.requests = [], asyncio.Queue()
        self.published = asyncio.Condition()
        self.refuse = None

    async def publish(self, event_id, value="crate"):
        event = events_pb2.Event(id=event_id, type=SENT, traceparent=TRACEPARENT)
        event.data.Pack(StringValue(value=value))
        async with self.published:
            self.events.append(event)
            self.published.notify_all()

    async def Subscribe(self, request, context):
        self.requests.put_nowait(request)
        if self.refuse is not None:
            refusal, self.refuse = self.refuse, None
            raise refusal
        position = int(request.cursor) if request.cursor else len(self.events)
        yield events_pb2.SubscribeResponse(cursor=str(position))
        while True:
            async with self.published:
                while len(self.events) <= position:
                    await self.published.wait()
            for event in self.events[position:]:
                position += 1
                yield events_pb2.SubscribeResponse(event=event, cursor=str(position))


class Depot:
    """What the subscriber has done, and a handler that says when it was called."""

    def __init__(self, url):
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.handled = asyncio.Queue()
        self.failures = []
        self.types = {SENT}
        # So often what is wanted cannot be read.
        self.away = 0

    def wanted(self):
        if self.away:
            self.away -= 1
            raise OperationalError("SELECT", {}, ConnectionError("the database is away"))
        return self.types

    async def handler(self, event):
        self.handled.put_nowait(event.id)
        if self.failures:
            raise self.failures.pop(0)
        return [Submission(receive_crate, StringValue(value=event.id))]

    def accepted(self):
        records = [self.client.hget(key, "rec") for key in self.client.scan_iter("wb:{depot}:op:*")]
        return [store_pb2.OperationRecord.FromString(record) for record in records]

    def cursor(self):
        return self.client.hget(CURSORS, "yard")


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def depot(valkey, monkeypatch):
    monkeypatch.setattr(subscribing, "MIN_BACKOFF_SECONDS", 0.01)
    depot = Depot(valkey.url)
    depot.client.flushall()
    yield depot
    depot.client.close()


@pytest.fixture
async def yard():
    yard = Yard()
    server = RpcServer("yard", WaybillSettings(routes={}))
    server.add(events_pb2_grpc.add_EventServiceServicer_to_server, yard)
    yard.port = await server.start("127.0.0.1:0")
    yield yard
    await server.stop(0)


@contextlib.asynccontextmanager
async def following(valkey, yard, depot):
    settings = DepotSettings(waybill=WaybillSettings(redis_url=valkey.url, routes={"yard": f"127.0.0.1:{yard.port}"}))
    subscriber = Subscriber(app, settings, name="crates", types=depot.wanted, handler=depot.handler)
    ended = asyncio.Event()
    running = asyncio.create_task(subscriber.follow(ended))
    try:
        yield
    finally:
        ended.set()
        await asyncio.wait_for(running, 20)


async def soon(waiting):
    return await asyncio.wait_for(waiting, 20)


async def connected(yard):
    return await soon(yard.requests.get())


async def cursor_at(depot, position):
    """Return when the cursor has been written so far; Redis tells of each write."""
    async with redis.asyncio.Redis.from_url(depot.url) as client, client.pubsub() as changes:
        await client.config_set("notify-keyspace-events", "Kh")
        await changes.subscribe(f"__keyspace@0__:{CURSORS}")
        while depot.cursor() != str(position).encode():
            assert await changes.get_message(timeout=20), f"the cursor stays at {depot.cursor()}"


async def cursor_gone(depot, publisher="yard"):
    """Return when there is none."""
    async with redis.asyncio.Redis.from_url(depot.url) as client, client.pubsub() as changes:
        await client.config_set("notify-keyspace-events", "Kgh")
        await changes.subscribe(f"__keyspace@0__:{CURSORS}")
        while await client.hexists(CURSORS, publisher):
            assert await changes.get_message(timeout=20), f"the cursor of {publisher} stays"


async def test_an_event_becomes_an_operation_in_its_trace(valkey, yard, depot):
    """The operation continues the event's trace; its request_id is made from the event's id."""
    async with following(valkey, yard, depot):
        request = await connected(yard)
        await cursor_at(depot, 0)
        await yard.publish("e1")
        await cursor_at(depot, 1)

    assert (request.service, list(request.types), request.cursor) == ("yard", [SENT], "")
    (record,) = depot.accepted()
    assert record.request_id == "e1/0"
    assert record.trace.trace_id.hex() == TRACEPARENT[3:35]
    assert record.trace.parent_span_id.hex() == TRACEPARENT[36:52]


async def test_an_event_delivered_twice_is_one_operation(valkey, yard, depot):
    """A publisher that repeats itself changes nothing."""
    async with following(valkey, yard, depot):
        await connected(yard)
        await cursor_at(depot, 0)
        await yard.publish("e1")
        await yard.publish("e1")
        await cursor_at(depot, 2)

    assert len(depot.accepted()) == 1


async def test_what_happened_while_it_was_down_is_not_lost(valkey, yard, depot):
    """A subscriber that comes back goes on from its cursor."""
    async with following(valkey, yard, depot):
        await connected(yard)
        await cursor_at(depot, 0)
    await yard.publish("missed")

    async with following(valkey, yard, depot):
        request = await connected(yard)
        await cursor_at(depot, 1)

    assert request.cursor == "0"
    assert [record.request_id for record in depot.accepted()] == ["missed/0"]


@pytest.mark.parametrize("failure", [Unavailable("metrics is away"), RuntimeError("odd")])
async def test_a_handler_that_fails_is_asked_again(valkey, yard, depot, failure):
    """An event waits for its handler; the cursor does not pass it."""
    depot.failures = [failure, failure]
    async with following(valkey, yard, depot):
        await connected(yard)
        await cursor_at(depot, 0)
        await yard.publish("e1")
        await cursor_at(depot, 1)

    assert depot.handled.qsize() == 3
    assert len(depot.accepted()) == 1


async def test_a_poison_event_is_passed_over(valkey, yard, depot, monkeypatch):
    """An event that no handler survives does not stop those behind it."""
    monkeypatch.setattr(subscribing, "MAX_HANDLER_FAILURES", 2)
    depot.failures = [RuntimeError("odd"), RuntimeError("odd")]
    async with following(valkey, yard, depot):
        await connected(yard)
        await cursor_at(depot, 0)
        await yard.publish("poison")
        await yard.publish("sound")
        await cursor_at(depot, 2)

    assert [record.request_id for record in depot.accepted()] == ["sound/0"]


async def test_an_expired_cursor_resumes_from_now(valkey, yard, depot):
    """CURSOR_EXPIRED is logged and the stream goes on; nothing is asked for that is gone."""
    depot.client.hset(CURSORS, "yard", "99")
    yard.refuse = OutOfRange("too old", reason="CURSOR_EXPIRED")
    async with following(valkey, yard, depot):
        first = await connected(yard)
        second = await connected(yard)
        await cursor_at(depot, 0)
        await yard.publish("e1")
        await cursor_at(depot, 1)

    assert (first.cursor, second.cursor) == ("99", "")
    assert len(depot.accepted()) == 1


async def test_a_publisher_that_refuses_is_called_again(valkey, yard, depot):
    """An outage of the publisher is waited out; the cursor stays."""
    depot.client.hset(CURSORS, "yard", "0")
    yard.refuse = Unavailable("draining", retry_after=timedelta(0), reason="DRAINING")
    await yard.publish("e1")
    async with following(valkey, yard, depot):
        assert (await connected(yard)).cursor == "0"
        assert (await connected(yard)).cursor == "0"
        await cursor_at(depot, 1)

    assert len(depot.accepted()) == 1


async def test_wanted_types_may_change(valkey, yard, depot, monkeypatch):
    """A new subscription is heard within two seconds, from where the stream was."""
    monkeypatch.setattr(subscribing, "TYPES_SECONDS", 0.05)
    async with following(valkey, yard, depot):
        await connected(yard)
        await cursor_at(depot, 0)
        depot.types = {SENT, "waybill.yard.crate.lost"}
        request = await connected(yard)

    assert list(request.types) == ["waybill.yard.crate.lost", SENT]
    assert request.cursor == "0"


async def test_what_is_wanted_anew_begins_then(valkey, yard, depot, monkeypatch):
    """What happened while nobody wanted it is not handed on: a new subscription is not flooded with the past."""
    monkeypatch.setattr(subscribing, "TYPES_SECONDS", 0.05)
    async with following(valkey, yard, depot):
        await connected(yard)
        await cursor_at(depot, 0)
        depot.types = set()
        await cursor_gone(depot)
        await yard.publish("unwanted")
        depot.types = {SENT}
        request = await connected(yard)
        await cursor_at(depot, 1)
        await yard.publish("wanted")
        await cursor_at(depot, 2)

    assert request.cursor == ""
    assert [record.request_id for record in depot.accepted()] == ["wanted/0"]


async def test_a_cursor_that_an_earlier_process_left_unwanted_is_forgotten(valkey, yard, depot):
    """The last subscription was deleted while no subscriber ran."""
    depot.client.hset(CURSORS, mapping={"yard": "0", "quay": "7"})
    async with following(valkey, yard, depot):
        await connected(yard)
        await cursor_gone(depot, "quay")

    assert depot.cursor() == b"0"


async def test_a_cursor_stays_while_nobody_can_say_what_is_wanted(valkey, yard, depot, monkeypatch):
    """A database that is away at the start says nothing of what is unwanted."""
    monkeypatch.setattr(subscribing, "TYPES_SECONDS", 0.05)
    depot.client.hset(CURSORS, "yard", "0")
    await yard.publish("e1")
    depot.away = 3
    async with following(valkey, yard, depot):
        request = await connected(yard)
        await cursor_at(depot, 1)

    assert depot.away == 0
    assert request.cursor == "0"


def test_a_pattern_over_services_is_wanted_of_each():
    """`waybill.*` follows every service that has a route."""
    assert by_publisher(["waybill.a.x.made", "waybill.*"], ["a", "b"]) == {
        "a": frozenset({"waybill.a.x.made", "waybill.*"}),
        "b": frozenset({"waybill.*"}),
    }
