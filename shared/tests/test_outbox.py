"""The outbox: events owed with the change they tell of, once however often the attempt runs."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
import sqlalchemy as sa
from chassis import outbox
from chassis.database import open_database
from google.protobuf import wrappers_pb2

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"


@dataclass
class Attempt:
    operation_id: str = "018f0000-0000-7000-8000-000000000001"
    effect_id: str = "018f0000-0000-7000-8000-000000000001"
    traceparent: str = PARENT


@pytest.fixture
def engine(database_url):
    metadata = sa.MetaData()
    outbox.table(metadata)
    engine = open_database(database_url, metadata)
    yield engine
    engine.dispose()


def owe(engine, attempt=None, *, key="sent", value="crate", **more):
    with engine.begin() as connection:
        return outbox.owe(
            connection,
            attempt or Attempt(),
            key=key,
            type="waybill.depot.crate.sent",
            subject="crates/1",
            data=wrappers_pb2.StringValue(value=value),
            **more,
        )


def pending(engine, **more):
    with engine.connect() as connection:
        return outbox.pending(connection, **more)


def test_what_is_owed_comes_back_whole(engine):
    """Type, subject, data, trace and links reach the publisher."""
    event_id = owe(engine, links=[OTHER])

    (event,) = pending(engine)

    value = wrappers_pb2.StringValue()
    assert event.data.Unpack(value)
    assert value.value == "crate"
    assert (event.event_id, event.type, event.subject) == (event_id, "waybill.depot.crate.sent", "crates/1")
    assert (event.parent, event.links) == (PARENT, (OTHER,))
    assert event.traceparent == outbox.traceparent_of(event_id, PARENT)


def test_a_second_attempt_owes_the_same_event(engine):
    """An attempt that runs twice, published between or not, owes one event."""
    first = owe(engine)
    second = owe(engine, value="changed")
    assert first == second
    assert len(pending(engine)) == 1

    with engine.begin() as connection:
        outbox.published(connection, [first])
    assert owe(engine) == first

    assert pending(engine) == []


def test_an_unedited_replay_owes_the_same_event(engine):
    """The id hangs on what effects are keyed by, not on the operation."""
    first = owe(engine)
    replay = Attempt(operation_id="018f0000-0000-7000-8000-000000000002")

    assert owe(engine, replay) == first


def test_keys_tell_the_events_of_an_operation_apart(engine):
    """Each key is an event, in the order in which they were owed."""
    ids = [owe(engine, key=key) for key in ("z", "a", "m")]

    assert [event.event_id for event in pending(engine)] == ids
    assert len(set(ids)) == 3


def test_a_rolled_back_change_owes_nothing(engine):
    """The event and the change it tells of are one transaction."""
    connection = engine.connect()
    transaction = connection.begin()
    value = wrappers_pb2.StringValue(value="never")
    outbox.owe(connection, Attempt(), key="k", type="t", subject="s", data=value)
    transaction.rollback()
    connection.close()

    assert pending(engine) == []


def test_an_event_continues_the_trace_that_it_is_given(engine):
    """`parent` replaces the attempt's context; the event has a span of its own in that trace."""
    owe(engine, parent=OTHER)

    (event,) = pending(engine)
    assert event.parent == OTHER
    assert event.traceparent.split("-")[1] == OTHER.split("-")[1]
    assert event.traceparent.split("-")[2] not in {OTHER.split("-")[2], PARENT.split("-")[2]}


def test_a_settle_publishes_its_own_operations_events(engine):
    """Only the events of the operation that settles are taken, as many as asked."""
    owe(engine, key="a")
    owe(engine, key="b")
    mine = owe(engine, Attempt(operation_id="mine", effect_id="mine"))

    assert [event.event_id for event in pending(engine, operation_id="mine")] == [mine]
    assert len(pending(engine, limit=2)) == 2


def test_published_events_are_forgotten_by_age_and_others_never(engine):
    """Forgetting takes what is published and old; what is owed stays."""
    gone, owed = owe(engine, key="a"), owe(engine, key="b")
    with engine.begin() as connection:
        outbox.published(connection, [gone])
        assert outbox.forget(connection, older_than=timedelta(days=1)) == 0
        assert outbox.forget(connection, older_than=timedelta(seconds=-1)) == 1

    assert [event.event_id for event in pending(engine)] == [owed]
