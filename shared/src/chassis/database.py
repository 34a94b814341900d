"""A service's database: SQLite that several processes may write, or PostgreSQL, through SQLAlchemy Core."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine, make_url

from chassis.lineages import Lineage, lineage_of, lineages_of
from chassis.logging import get_logger

log = get_logger(__name__)

BUSY_TIMEOUT_MS = 5_000
#: How long a process waits for another one that upgrades the same SQLite.
UPGRADE_TIMEOUT_MS = 600_000
#: How long an upgrade waits for what others do with a table of PostgreSQL, all of whom wait behind it meanwhile.
_LOCK_TIMEOUT = "10s"
_POLL_SECONDS = 0.02
_READ = "chassis.read"

Row = Mapping[str, Any]
NewRow = sa.ColumnCollection[str, sa.ColumnElement[Any]]


def open_database(url: str, metadata: sa.MetaData) -> Engine:
    """An engine whose tables are those of the newest revision that is known here or there; see chassis.lineages.

    Any number of processes may call it at once: one runs the revisions that are missing, in one transaction, the others
    wait for it. With none missing it is one query. A revision that only a newer version knows is accepted.

    `engine.begin()` is for everything that writes: on SQLite it takes the write lock at its
    start (BEGIN IMMEDIATE), so that it waits for other writers, at most 5 s, and never fails
    half-way. A transaction that a SELECT on `engine.connect()` opens reads one snapshot and
    locks nobody out; do not write in it. Make no network call inside a transaction.
    """
    parsed = make_url(url)
    engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    wanted = lineages_of(metadata)
    there = _reached(engine, wanted)
    if any(there.get(lineage.name, "") < lineage.head for lineage in wanted):
        _upgrade(engine, wanted)
    for lineage in wanted:
        if there.get(lineage.name, "") > lineage.head:
            _accept_newer(lineage, there[lineage.name])
    return engine


def revisions_in(engine: Engine) -> dict[str, str]:
    """How far each lineage has come in a database, those included that nobody here knows."""
    version = sa.select(sa.column("version_num", sa.String))
    with engine.connect() as connection:
        tables = sorted(filter(lineage_of, sa.inspect(connection).get_table_names()))
        found = {lineage_of(name): connection.scalar(version.select_from(sa.table(name))) for name in tables}
    return {name: revision for name, revision in found.items() if revision}


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


def _reached(engine: Engine, wanted: Sequence[Lineage]) -> Mapping[str, str]:
    """How far each has come, by one query; empty where one of them has not begun."""
    version = sa.column("version_num", sa.String)
    each = [sa.select(sa.literal(one.name), version).select_from(sa.table(one.version_table)) for one in wanted]
    with engine.connect() as connection:
        if not each:
            return {}
        try:
            return {row[0]: row[1] for row in connection.execute(sa.union_all(*each))}
        except (sa.exc.ProgrammingError, sa.exc.OperationalError):
            # A table is missing; if it is something else, so will the upgrade find.
            return {}


def _upgrade(engine: Engine, wanted: Sequence[Lineage]) -> None:
    from chassis.migrations import upgrade  # noqa: PLC0415 (slow, and seldom needed)

    with engine.connect() as connection, _patience(connection), connection.begin():
        _one_at_a_time(connection)
        upgraded = {lineage.name: lineage.head for lineage in wanted if upgrade(connection, lineage)}
    if upgraded:
        log.info("database.upgraded", **upgraded)


@contextmanager
def _patience(connection: Connection) -> Iterator[None]:
    """On SQLite, for the begin of what follows."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    driver.execute(f"PRAGMA busy_timeout = {UPGRADE_TIMEOUT_MS}")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _one_at_a_time(connection: Connection) -> None:
    """Until the end of the transaction, on PostgreSQL; SQLite's lock is held already."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(b"chassis.database").digest()[:8], "big", signed=True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")


@cache
def _accept_newer(lineage: Lineage, revision: str) -> None:
    """Once for each process."""
    log.info("database.newer", lineage=lineage.name, known=lineage.head, revision=revision)
