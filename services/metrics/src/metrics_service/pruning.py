"""Deleting what is past its retention, a bounded piece in each transaction."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from metrics_service.alerts import AlertState
from metrics_service.instants import duration_us, to_us
from metrics_service.queries import Retention
from metrics_service.rollups import Resolution
from metrics_service.schema import ALERTS, APPLIED_BATCHES, EVALUATION, ROLLUPS, SERIES

INTERVAL = timedelta(minutes=1)
# Longer than a gateway remembers a request_id, so that no batch is forgotten while it can be sent again.
BATCH_RETENTION = timedelta(hours=24)
# How many rows of one age-ordered table a transaction deletes, within the rows of one instant.
_ROWS_AT_A_TIME = 5_000
_SECOND_US = 1_000_000


def prune(engine: sa.Engine, retention: Retention, now: datetime) -> int:
    """Delete what is too old, unless that was done within the last minute; returns the number of rows."""
    if not _is_due(engine, now):
        return 0
    return sum(_delete_older(engine, column, limit) for column, limit in _limits(retention, now)) + _prune_alerts(
        engine, to_us(now - retention[Resolution.ONE_HOUR])
    )


def _is_due(engine: sa.Engine, now: datetime) -> bool:
    """Compare and set: of several evaluations at a time one prunes."""
    due = EVALUATION.c.prune_time_us <= to_us(now) - duration_us(INTERVAL)
    with engine.begin() as connection:
        return connection.execute(sa.update(EVALUATION).where(due).values(prune_time_us=to_us(now))).rowcount == 1


def _limits(retention: Retention, now: datetime) -> Iterator[tuple[sa.Column[Any], int]]:
    """The column that tells the age of a row, and the value below which a row goes."""
    for resolution, table in ROLLUPS.items():
        yield table.c.bucket, to_us(now - retention[resolution]) // _SECOND_US
    yield APPLIED_BATCHES.c.apply_time_us, to_us(now - BATCH_RETENTION)
    yield SERIES.c.last_time_us, to_us(now - retention[Resolution.ONE_HOUR])


def _delete_older(engine: sa.Engine, age: sa.Column[Any], limit: int) -> int:
    deleted = 0
    while True:
        with engine.begin() as connection:
            step = connection.execute(
                sa.select(age).where(age < limit).order_by(age).offset(_ROWS_AT_A_TIME).limit(1)
            ).scalar()
            upto = limit if step is None else step + 1
            deleted += connection.execute(sa.delete(age.table).where(age < upto)).rowcount
        if step is None:
            return deleted


def _prune_alerts(engine: sa.Engine, limit_us: int) -> int:
    old = sa.and_(ALERTS.c.state == int(AlertState.RESOLVED), ALERTS.c.resolve_time_us < limit_us)
    with engine.begin() as connection:
        return connection.execute(sa.delete(ALERTS).where(old)).rowcount
