"""Adding a batch of samples to the database, once, however often it is delivered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from chassis.database import NewRow, insert_ignore, upsert

from metrics_service.columns import dump_labels
from metrics_service.instants import to_us
from metrics_service.rollups import BucketKey, Resolution, Rollup, coarsen, roll_up
from metrics_service.samples import Sample, touched
from metrics_service.schema import APPLIED_BATCHES, ROLLUPS, SERIES
from metrics_service.series import SeriesRecord


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples that are added together; `batch_id` is the operation's effect id."""

    batch_id: str
    samples: Sequence[Sample]
    # How many more it held that lie too far back.
    dropped_late: int
    traceparent: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a batch; `already`: by an attempt before this one, which counted."""

    applied: int
    dropped_late: int
    already: bool = False


def apply(engine: sa.Engine, batch: Batch, now: datetime) -> Applied:
    """Add the samples in one transaction with the batch's id; a batch whose id is there adds nothing.

    Six statements, whatever the number of samples. Rows are written in the order of their keys,
    so that batches that share series wait for each other instead of deadlocking.
    """
    finest = roll_up(batch.samples)
    minutes = coarsen(finest, Resolution.ONE_MINUTE)
    hours = coarsen(minutes, Resolution.ONE_HOUR)
    with engine.begin() as connection:
        if not _is_new(connection, batch, now):
            return _earlier(connection, batch.batch_id)
        if batch.samples:
            connection.execute(_UPSERT_SERIES, _series_rows(touched(batch.samples, batch.traceparent)))
            for resolution, rollups in zip(Resolution, (finest, minutes, hours), strict=True):
                connection.execute(_UPSERT_ROLLUPS[resolution], _rollup_rows(rollups))
    return Applied(len(batch.samples), batch.dropped_late)


def _is_new(connection: sa.Connection, batch: Batch, now: datetime) -> bool:
    row = {
        "batch_id": batch.batch_id,
        "apply_time_us": to_us(now),
        "applied": len(batch.samples),
        "dropped_late": batch.dropped_late,
    }
    statement = insert_ignore(APPLIED_BATCHES, row, ["batch_id"]).execution_options(preserve_rowcount=True)
    return connection.execute(statement).rowcount == 1


def _earlier(connection: sa.Connection, batch_id: str) -> Applied:
    chosen = sa.select(APPLIED_BATCHES).where(APPLIED_BATCHES.c.batch_id == batch_id)
    row = connection.execute(chosen).one()
    return Applied(row.applied, row.dropped_late, already=True)


def _series_rows(records: Iterable[SeriesRecord]) -> list[dict[str, Any]]:
    rows = [
        {
            "new_fingerprint": record.key.fingerprint,
            "new_metric": record.key.metric,
            "new_labels": dump_labels(record.key.labels),
            "new_unit": record.unit,
            "new_first_time_us": record.first_time_us,
            "new_last_time_us": record.last_time_us,
            "new_last_value": record.last_value,
            "new_traceparent": record.traceparent,
        }
        for record in records
    ]
    return sorted(rows, key=lambda row: row["new_fingerprint"])


def _rollup_rows(rollups: Mapping[BucketKey, Rollup]) -> list[dict[str, Any]]:
    return [
        {
            "new_fingerprint": key.fingerprint,
            "new_bucket": key.bucket,
            "new_count": rollup.count,
            "new_total": rollup.total,
            "new_low": rollup.low,
            "new_high": rollup.high,
            "new_last": rollup.last,
            "new_last_time_us": rollup.last_time_us,
        }
        for key, rollup in sorted(rollups.items())
    ]


def _least(old: sa.ColumnElement[Any], new: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.case((new < old, new), else_=old)


def _greatest(old: sa.ColumnElement[Any], new: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.case((new > old, new), else_=old)


def _latest(table: sa.Table, new: NewRow, value: str) -> sa.ColumnElement[Any]:
    """The value with the later event time; of two at the same instant, the greater one, as Rollup.merge has it."""
    old = table.c
    later = new["last_time_us"] > old.last_time_us
    tied = sa.and_(new["last_time_us"] == old.last_time_us, new[value] > old[value])
    return sa.case((sa.or_(later, tied), new[value]), else_=old[value])


def _merged_series(new: NewRow) -> Mapping[str, Any]:
    old = SERIES.c
    return {
        "unit": sa.case((new["unit"] != "", new["unit"]), else_=old.unit),
        "first_time_us": _least(old.first_time_us, new["first_time_us"]),
        "last_time_us": _greatest(old.last_time_us, new["last_time_us"]),
        "last_value": _latest(SERIES, new, "last_value"),
        "traceparent": new["traceparent"],
    }


def _merging_upsert(table: sa.Table) -> sa.Insert:
    old = table.c

    def merged(new: NewRow) -> Mapping[str, Any]:
        return {
            "count": old.count + new["count"],
            "total": old.total + new["total"],
            "low": _least(old.low, new["low"]),
            "high": _greatest(old.high, new["high"]),
            "last": _latest(table, new, "last"),
            "last_time_us": _greatest(old.last_time_us, new["last_time_us"]),
        }

    return upsert(table, _parameters(table), keys=["fingerprint", "bucket"], update=merged)


def _parameters(table: sa.Table) -> dict[str, sa.BindParameter[Any]]:
    """A parameter `new_<column>` for each column: the statement is compiled once and run for many rows."""
    return {column.name: sa.bindparam(f"new_{column.name}") for column in table.columns}


_UPSERT_SERIES = upsert(SERIES, _parameters(SERIES), keys=["fingerprint"], update=_merged_series)
_UPSERT_ROLLUPS = {resolution: _merging_upsert(table) for resolution, table in ROLLUPS.items()}
