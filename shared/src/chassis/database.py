"""A service's database: SQLite that several processes may write, or PostgreSQL, through SQLAlchemy Core."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine, make_url

BUSY_TIMEOUT_MS = 5_000
_POLL_SECONDS = 0.02
_READ = "chassis.read"

Row = Mapping[str, Any]
NewRow = sa.ColumnCollection[str, sa.ColumnElement[Any]]


def open_database(url: str, metadata: sa.MetaData) -> Engine:
    """An engine whose missing tables have been created; any number of processes may call it at once.

    `engine.begin()` is for everything that writes: on SQLite it takes the write lock at its
    start (BEGIN IMMEDIATE), so that it waits for other writers, at most 5 s, and never fails
    half-way. A transaction that a SELECT on `engine.connect()` opens reads one snapshot and
    locks nobody out; do not write in it. Make no network call inside a transaction.
    """
    parsed = make_url(url)
    engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    with engine.begin() as connection:
        _one_creator_at_a_time(connection)
        metadata.create_all(connection)
    return engine


def insert_ignore(table: sa.Table, values: Row | Sequence[Row], keys: Sequence[str]) -> sa.Insert:
    """Insert rows, leaving alone those whose keys are there; `rowcount` says how many were new."""
    statement = postgresql.insert(table).values(_plain(values)).on_conflict_do_nothing(index_elements=list(keys))
    # psycopg says how many only when it is asked to.
    return statement.execution_options(preserve_rowcount=True)


def upsert(
    table: sa.Table,
    values: Row | Sequence[Row],
    *,
    keys: Sequence[str],
    update: Sequence[str] | Callable[[NewRow], Row],
    where: sa.ColumnElement[bool] | None = None,
) -> sa.Insert:
    """Insert rows, or update those whose keys are there and of which `where` is true.

    `update` names the columns that take the new row's values, or computes them from it:
    `update=lambda new: {"count": table.c.count + new["count"]}`. SQLite takes at most 32,766
    values in one statement.
    """
    # SQLite's compiler renders PostgreSQL's clause as it is: both databases share the syntax.
    statement = postgresql.insert(table).values(_plain(values))
    new = statement.excluded
    changed = update(new) if callable(update) else {name: new[name] for name in update}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=dict(changed), where=where)


def _plain(values: Row | Sequence[Row]) -> Any:
    return dict(values) if isinstance(values, Mapping) else [dict(row) for row in values]


def _postgresql(url: sa.URL) -> Engine:
    return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)


def _sqlite(url: sa.URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "before_execute", _notice_reads)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # None: the driver begins nothing by itself, `_begin` does.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    _use_wal(connection)
    # With WAL, NORMAL may lose the last transactions when the machine loses power.
    connection.execute("PRAGMA synchronous = FULL")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait for other connections here, whatever the busy timeout."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)


def _notice_reads(connection: Connection, clause: Any, *_: object) -> None:
    if not connection.in_transaction():
        connection.info[_READ] = isinstance(clause, sa.SelectBase)


def _begin(connection: Connection) -> None:
    reads = connection.info.pop(_READ, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _one_creator_at_a_time(connection: Connection) -> None:
    """PostgreSQL's CREATE TABLE IF NOT EXISTS may fail when two run at once; SQLite's lock is held already."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(b"chassis.database").digest()[:8], "big", signed=True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
