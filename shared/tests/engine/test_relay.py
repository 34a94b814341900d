"""What a database owes is published: at once for the attempt that owes it, by sweep for what is left over."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from chassis import outbox
from chassis.database import open_database
from chassis.relay import BATCH, KEEP_PUBLISHED, Relay
from chassis.testing import attempt
from google.protobuf.struct_pb2 import Struct
from redis.exceptions import RedisError
from waybill.store.v1 import store_pb2


@pytest.fixture
def engine(database_url):
    metadata = sa.MetaData()
    outbox.table(metadata)
    opened = open_database(database_url, metadata)
    yield opened
    opened.dispose()


@pytest.fixture
def relay(store, engine):
    return Relay("test", store, engine)


def owe(engine, owing, count=1, start=0):
    with engine.begin() as connection:
        return [
            outbox.owe(connection, owing, key=str(n), type="waybill.test.a", subject=f"s{n}", data=Struct())
            for n in range(start, start + count)
        ]


def published(store):
    entries = store.client.xrange(store.keys.named("events"))
    return [store_pb2.PublishedEvent.FromString(fields[b"e"]) for _, fields in entries]


def test_an_operations_events_are_published_in_order(relay, engine, store):
    """As CloudEvents, with what owes them and the trace that they continue; nobody else's with them."""
    owing, other = attempt(service="test"), attempt(service="test")
    ids = owe(engine, owing, 3)
    owe(engine, other)

    assert relay.publish(operation_id=owing.operation_id) == 3

    events = published(store)
    assert [one.event.id for one in events] == ids
    assert [one.event.subject for one in events] == ["s0", "s1", "s2"]
    assert {(one.event.source, one.event.type) for one in events} == {("/waybill/test", "waybill.test.a")}
    assert {one.operation_id for one in events} == {owing.operation_id}
    assert {one.parent for one in events} == {owing.traceparent}
    assert {one.event.traceparent[:35] for one in events} == {owing.traceparent[:35]}


def test_a_sweep_publishes_what_is_left_and_nothing_twice(relay, engine, store):
    """Whoever owes it, and whatever has been published already."""
    first = attempt()
    owe(engine, first, 2)
    relay.publish(operation_id=first.operation_id)
    owe(engine, attempt(), 2)

    assert [relay.publish(), relay.publish()] == [2, 0]
    assert len(published(store)) == 4


def test_a_second_attempt_owes_and_publishes_the_same_events(relay, engine, store):
    """One event, however many attempts owe it."""
    owing = attempt(operation_id="o")
    owe(engine, owing, 2)
    relay.publish(operation_id="o")
    owe(engine, attempt(operation_id="o", number=2), 2)

    assert relay.publish(operation_id="o") == 0
    assert len(published(store)) == 2


def test_more_events_than_a_batch_are_all_published_before_the_settle(relay, engine, store):
    """An operation that owes many does not leave them to the sweep."""
    owing = attempt()
    owe(engine, owing, 2 * BATCH + 1)

    assert relay.publish(operation_id=owing.operation_id) == 2 * BATCH + 1
    assert len(published(store)) == 2 * BATCH + 1


def test_a_death_between_publishing_and_noting_it_publishes_once(relay, engine, store, monkeypatch):
    """The note is missing, so it is published again; the store knows the event."""
    owe(engine, attempt())
    with monkeypatch.context() as dying:
        dying.setattr(outbox, "published", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            relay.publish()

    assert relay.publish() == 1
    assert len(published(store)) == 1
    assert relay.publish() == 0


def test_an_outage_leaves_the_events_owed(relay, engine, store, valkey):
    """The next sweep publishes them."""
    owe(engine, attempt())
    valkey.stop()
    with pytest.raises(RedisError):
        relay.publish()
    valkey.start()

    assert relay.publish() == 1
    assert len(published(store)) == 1


def test_what_was_published_long_ago_is_forgotten(relay, engine):
    """Longer ago than any operation is attempted; what is still owed stays."""
    owe(engine, attempt(), 2)
    relay.publish()
    owe(engine, attempt())
    with engine.begin() as connection:
        long_ago = (KEEP_PUBLISHED + timedelta(days=1)) // timedelta(microseconds=1)
        connection.execute(
            sa.text(f"update outbox set publish_time_us = publish_time_us - {long_ago} where subject = 's1'")
        )

    assert relay.forget() == 1
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from outbox")) == 2


def test_the_sweep_of_a_running_relay_needs_nobody(relay, engine, store, monkeypatch):
    """A thread of its own; it goes on after an outage and ends when told."""
    monkeypatch.setattr("chassis.relay.SWEEP_SECONDS", 0.02)
    relay.start()
    owe(engine, attempt())

    answer = store.client.xread({store.keys.named("events"): "0-0"}, block=4000)

    assert answer
    relay.stop()
    assert not relay._thread.is_alive()


def test_a_database_that_is_away_when_a_worker_starts_only_delays_its_relay(store, engine):
    """It is opened when something is to be published, and asked for again after a failure."""
    answers = [sa.exc.OperationalError("BEGIN", {}, Exception("locked")), engine]

    def open_it():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    relay = Relay("test", store, open_it)
    owe(engine, attempt())

    with pytest.raises(sa.exc.OperationalError):
        relay.publish()
    assert relay.publish() == 1
