"""A database that an earlier version has made grows when it is opened."""

import sqlalchemy as sa
from chassis import history
from chassis.archive_calls import Unarchived
from chassis.archive_schema import OPERATIONS
from chassis.database import open_database
from chassis.filters import read
from chassis.history import Archive, Selection
from chassis.telemetry import now_us
from waybill.store.v1 import store_pb2

ADDED = ("attempts", "wait_us", "total_us", "search_text")
INDEXES = ("operations_by_end", "operations_by_queue", "operations_unsuccessful", "operations_dead_by_group")


def an_operation(number):
    """One that failed after two attempts."""
    at = now_us()
    record = store_pb2.OperationRecord(id=f"00000000-0000-7000-8000-{number:012x}", labels={"team": f"t{number}"})
    fields = {
        "rec": record.SerializeToString(),
        "task": "test.do",
        "q": "q",
        "st": 6,
        "ct": at,
        "start": at + 10,
        "et": at + 30,
        "at": 2,
        "ec": 4,
        "er": "TIMEOUT",
        "em": "no answer",
        "ks": 10**12,
        "kf": 10**12,
        "tr": "0/0",
    }
    return Unarchived(
        record.id, {k.encode(): v if isinstance(v, bytes) else str(v).encode() for k, v in fields.items()}
    )


ENDED = [an_operation(number) for number in range(3)]


def opened(engine):
    metadata = sa.MetaData()
    history.tables(metadata)
    return open_database(engine.url.render_as_string(hide_password=False), metadata)


def described(engine):
    """Columns and indexes of both tables."""
    there = sa.inspect(engine)
    return {
        table: (
            {column["name"] for column in there.get_columns(table)},
            {index["name"] for index in there.get_indexes(table)},
        )
        for table in ("operations", "operation_labels")
    }


def contents(engine):
    with engine.connect() as connection:
        rows = connection.execute(sa.select(OPERATIONS).where(~OPERATIONS.c.deleted).order_by(OPERATIONS.c.id)).all()
        labels = connection.execute(sa.text("SELECT * FROM operation_labels ORDER BY key, value, operation_id")).all()
    return [row._asdict() for row in rows], [dict(row._mapping) for row in labels]


def test_what_was_archived_before_is_found_as_if_it_had_been_archived_now(archive, history_engine):
    """Columns, what they hold, and indexes; opening once more changes nothing."""
    archive.keep(ENDED)
    archive.delete(ENDED[0].operation_id, was_live=False)
    before, structure = contents(history_engine), described(history_engine)
    with history_engine.begin() as connection:
        for index in (*INDEXES, "operation_labels_by_time"):
            connection.execute(sa.text(f"DROP INDEX {index}"))
        for column in ADDED:
            connection.execute(sa.text(f"ALTER TABLE operations DROP COLUMN {column}"))
        connection.execute(sa.text("ALTER TABLE operation_labels DROP COLUMN create_time_us"))
        connection.execute(sa.text("DROP TABLE alembic_version_archive"))
    history_engine.dispose()

    for _ in range(2):
        engine = opened(history_engine)
        assert described(engine) == structure
        assert contents(engine) == before
        engine.dispose()
    found = Archive(history_engine).page("ops", Selection(read("timeout")), after=None, until=None, limit=100)
    assert len(found.found) == 2
