"""The database of seedling: what its operations leave, and the archive of the operations themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from chassis import history
from chassis.database import insert_ignore, open_database
from chassis.lineages import declare
from chassis.settings import load
from waybill.seedling.v1 import seedling_pb2

from seedling_service.settings import SeedlingSettings

metadata = sa.MetaData()
history.tables(metadata)
declare(metadata, "seedling", Path(__file__).with_name("revisions"))
_RECORDS = sa.Table(
    "records",
    metadata,
    # The id that the effects of an operation are keyed by.
    sa.Column("record_id", sa.String(36), primary_key=True),
    sa.Column("words", sa.Integer, nullable=False),
)


class Store:
    """A database; threads may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def keep(self, record: seedling_pb2.Record) -> seedling_pb2.Record:
        """Keep a record; returns the one that is kept, an earlier attempt's where there is one."""
        row = {"record_id": record.record_id, "words": record.words}
        with self.engine.begin() as connection:
            connection.execute(insert_ignore(_RECORDS, row, ["record_id"]))
            kept = sa.select(_RECORDS.c.words).where(_RECORDS.c.record_id == record.record_id)
            return seedling_pb2.Record(record_id=record.record_id, words=connection.execute(kept).scalar_one())


@cache
def opened() -> Store:
    """This process's store, opened at first use with the settings of the environment, its tables up to date."""
    return Store(open_database(load(SeedlingSettings).database, metadata))


def engine() -> sa.Engine:
    """The engine of this process's store."""
    return opened().engine
