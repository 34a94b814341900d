"""What the sample's tasks did: each run, and each effect once."""

import functools
import os
from pathlib import Path

import sqlalchemy as sa
from chassis import history, outbox
from chassis.database import insert_ignore, open_database
from chassis.lineages import declare
from chassis.settings import load
from google.protobuf.struct_pb2 import Struct

from sample_service.settings import SampleSettings

metadata = sa.MetaData()
history.tables(metadata)
outbox.table(metadata)
declare(metadata, "sample", Path(__file__).with_name("revisions"))
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("operation_id", sa.String(36)),
    sa.Column("attempt", sa.Integer),
    sa.Column("pid", sa.Integer),
)
effects = sa.Table(
    "effects",
    metadata,
    sa.Column("effect_id", sa.String(36), primary_key=True),
    sa.Column("operation_id", sa.String(36)),
)


@functools.cache
def engine():
    return open_database(load(SampleSettings).database, metadata)


def note_run(attempt):
    with engine().begin() as connection:
        row = {"operation_id": attempt.operation_id, "attempt": attempt.number, "pid": os.getpid()}
        connection.execute(runs.insert().values(**row))


def take_effect(attempt, events):
    """The effect, once for all attempts, and the events that it owes, in one transaction."""
    with engine().begin() as connection:
        row = {"effect_id": attempt.effect_id, "operation_id": attempt.operation_id}
        connection.execute(insert_ignore(effects, row, ["effect_id"]))
        for number in range(events):
            data = Struct()
            data.update({"number": number})
            outbox.owe(
                connection,
                attempt,
                key=str(number),
                type="waybill.sample.effect.taken",
                subject=attempt.operation,
                data=data,
            )


def note_plain(word):
    with engine().begin() as connection:
        connection.execute(insert_ignore(effects, {"effect_id": word, "operation_id": "plain"}, ["effect_id"]))
