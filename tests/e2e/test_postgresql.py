"""The incident pipeline with every service's database on PostgreSQL, by URL."""

from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from chassis.database import open_database, revisions_in
from chassis.lineages import databases, lineages_of
from chassis.testing.postgresql import database
from waybill.metrics.v1 import metrics_pb2
from waybill.operations.v1 import operations_pb2 as ops

from tests import incident
from tests.stack import NAMES, Stack

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture(scope="module")
def urls(postgresql_server):
    """An empty database for each service."""
    with ExitStack() as opened:
        yield {name: opened.enter_context(database(postgresql_server)) for name in NAMES}


@pytest.fixture(scope="module")
def on_postgresql(urls, tmp_path_factory):
    """Every process of every service; what has ended leaves Redis at once."""
    environment = {f"{name.upper()}_DATABASE_URL": url for name, url in urls.items()}
    with Stack(tmp_path_factory.mktemp("stack"), {**environment, "WAYBILL_TAIL_SECONDS": "1"}) as running:
        running.start()
        yield running


@pytest.fixture(scope="module")
def told(on_postgresql):
    return incident.run(on_postgresql)


def test_an_incident_is_told_from_its_samples_to_its_mailed_report(told):
    """As on SQLite."""
    assert told.alert.state == metrics_pb2.ALERT_STATE_RESOLVED
    assert [mail["subject"] for mail in told.mails] == [each.subject for each in told.deliveries]
    assert told.report.charts >= 2


@pytest.mark.parametrize("name", NAMES)
def test_what_it_leaves_is_in_the_databases_that_were_named(told, on_postgresql, urls, name):
    """Tables at their newest revision, no file beside them, no event owed still, and an archive that answers."""
    metadata = databases()[name]
    engine = open_database(urls[name], metadata)
    with engine.connect() as connection:
        owed = connection.scalar(sa.text("SELECT count(*) FROM outbox WHERE publish_time_us IS NULL"))
        published = connection.scalar(sa.text("SELECT count(*) FROM outbox"))
    reached = revisions_in(engine)
    engine.dispose()

    assert reached == {lineage.name: lineage.head for lineage in lineages_of(metadata)}
    assert (owed, published >= 1) == (0, True)
    assert list(on_postgresql.state_dir.rglob("*.db")) == []
    of_the_incident = f"trace_id = {told.alert.trace_id}"
    ended = on_postgresql.finished_all(name, of_the_incident)
    assert {kept.state for _, kept in ended} == {ops.OPERATION_STATE_SUCCEEDED}
