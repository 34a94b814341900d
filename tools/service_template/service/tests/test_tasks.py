"""The task, with a real database and without a store of operations."""

import pytest
import sqlalchemy as sa
from chassis.database import open_database
from chassis.testing import attempt
from seedling_service import store, tasks
from waybill.seedling.v1 import seedling_pb2


@pytest.fixture
def opened(database_url, monkeypatch):
    """The store that the tasks of this process find, empty."""
    engine = open_database(database_url, store.metadata)
    monkeypatch.setattr("seedling_service.store.opened", lambda: store.Store(engine))
    yield store.opened()
    engine.dispose()


def kept(opened):
    with opened.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(store.metadata.tables["records"]))]


def a_request(**fields):
    return seedling_pb2.ProcessItemRequest(**{"text": "to be or not to be", **fields})


def test_a_text_becomes_a_record(opened):
    """What is answered is what is kept, under the id that the operation's effects have."""
    running = attempt(service="seedling")

    response = tasks.process_item.run(running, a_request())

    assert response.record == seedling_pb2.Record(record_id=running.effect_id, words=6)
    assert kept(opened) == [(running.effect_id, 6)]


def test_a_second_attempt_has_the_effect_of_the_first(opened):
    """An attempt may run twice: one record, one answer."""
    first = attempt(service="seedling")
    second = attempt(service="seedling", operation_id=first.operation_id, number=2)

    answers = [tasks.process_item.run(each, a_request()) for each in (first, second)]

    assert answers[0] == answers[1]
    assert len(kept(opened)) == 1
