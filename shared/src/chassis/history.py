"""The archive: ended operations in the service's own database, kept until their retention is over.

An operation is in the store, in both, or here alone; where both have it, the store is right. A row is what the store's
hash was, so an archived operation is described as a live one is; columns are what lists and filters go by.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from chassis.archive_calls import Unarchived
from chassis.archive_pages import Position, Selection, read_stretch, visible
from chassis.archive_schema import EMPTY, LABELS, OPERATIONS, fields_of, label_rows, row_of, tables
from chassis.archive_stats import Ended, Span, Stats, read_stats
from chassis.database import insert_ignore, upsert
from chassis.descriptions import StoredOperation
from chassis.facts import facts_of
from chassis.filters import Expression
from chassis.telemetry import now_us

__all__ = ["Archive", "Group", "Page", "Position", "Selection", "tables"]

#: How long it is remembered that a client deleted an operation, so that no late archivist brings it back.
REMEMBER_DELETED: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Page:
    """Operations with their positions, newest first. `end`: it tells all up to there; None: it tells all."""

    found: Sequence[tuple[Position, StoredOperation]]
    end: Position | None


@dataclass(frozen=True, slots=True)
class Group:
    """Archived dead letters that failed alike."""

    name: str
    count: int
    newest_us: int


class Archive:
    """Blocking; threads may share it. Every method raises SQLAlchemyError when the database is out of reach.

    An engine that is given as a function is opened when it is first needed.
    """

    def __init__(self, engine: sa.Engine | Callable[[], sa.Engine]) -> None:
        self._given = engine
        self._lock = threading.Lock()

    @property
    def _engine(self) -> sa.Engine:
        with self._lock:
            if not isinstance(self._given, sa.Engine):
                self._given = self._given()
            return self._given

    def keep(self, ended: Sequence[Unarchived]) -> None:
        """In one transaction. What is here already is brought up to date; what a client deleted stays deleted."""
        facts = [facts_of(item.stored) for item in ended]
        rows = [row_of(*pair) for pair in zip(ended, facts, strict=True)]
        labels = [row for pair in zip(ended, facts, strict=True) for row in label_rows(*pair)]
        if not rows:
            return
        with self._engine.begin() as connection:
            connection.execute(_KEEP, rows)
            if labels:
                connection.execute(_KEEP_LABELS, labels)

    def get(self, operation_id: str) -> StoredOperation | None:
        """None for what is not here, or past its retention."""
        with self._engine.connect() as connection:
            row = connection.execute(_described().where(OPERATIONS.c.id == operation_id)).first()
        return None if row is None else _stored(row)

    def page(
        self, index: str, selection: Selection, *, after: Position | None, until: Position | None, limit: int
    ) -> Page:
        """What is wanted of `ops` or `dead` after `after`, up to `until` and including it, or of the first part of it.

        Looks at a bounded number of rows.
        """
        with self._engine.connect() as connection:
            stretch = read_stretch(connection, index, selection, after=after, until=until, limit=limit)
        return Page([((row.at, row.id), _stored(row)) for row in stretch.found], stretch.end)

    def discard(self, operation_ids: Sequence[str]) -> set[str]:
        """Take them off the dead letters, in one transaction; those that were such."""
        found: set[str] = set()
        with self._engine.begin() as connection:
            for start in range(0, len(operation_ids), _IDS_AT_A_TIME):
                part = operation_ids[start : start + _IDS_AT_A_TIME]
                dead = OPERATIONS.c.id.in_(part), _is_dead_letter()
                discard = sa.update(OPERATIONS).where(*dead).values(dead_letter_group="")
                found.update(connection.scalars(discard.returning(OPERATIONS.c.id)))
        return found

    def note_replays(self, replays: Mapping[str, str]) -> None:
        """`replays`: the replay's id by that of the original."""
        with self._engine.begin() as connection:
            for original, replay in replays.items():
                connection.execute(sa.update(OPERATIONS).where(OPERATIONS.c.id == original).values(replayed_by=replay))

    def delete(self, operation_id: str, *, was_live: bool) -> bool:
        """Forget it and remember that; whether there was anything to forget here.

        `was_live`: the store had it, so that an archivist may be about to bring it.
        """
        until = now_us() + REMEMBER_DELETED // timedelta(microseconds=1)
        with self._engine.begin() as connection:
            seen = OPERATIONS.c.id == operation_id, visible(OPERATIONS.c)
            there = connection.scalar(sa.select(OPERATIONS.c.id).where(*seen)) is not None
            if there or was_live:
                tombstone = {**_TOMBSTONE, "id": operation_id, "keep_until_us": until}
                connection.execute(upsert(OPERATIONS, tombstone, keys=["id"], update=[*_TOMBSTONE, "keep_until_us"]))
                connection.execute(sa.delete(LABELS).where(LABELS.c.operation_id == operation_id))
        return there

    def groups(self) -> list[Group]:
        """Of all dead letters here."""
        group = OPERATIONS.c.dead_letter_group
        counts = (
            sa.select(group, sa.func.count().label("count"), sa.func.max(OPERATIONS.c.end_time_us).label("newest_us"))
            .where(_is_dead_letter(), visible(OPERATIONS.c))
            .group_by(group)
        )
        with self._engine.connect() as connection:
            return [Group(row.dead_letter_group, row[1], row.newest_us) for row in connection.execute(counts)]

    def stats(self, span: Span, expression: Expression, others: dict[str, Ended]) -> list[Stats]:
        """As `chassis.archive_stats.read_stats`, of one snapshot. Raises TooManyError."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            return read_stats(connection, span, expression, others)

    def groups_of(self, operation_ids: Sequence[str]) -> dict[str, str]:
        """The group of each that is a dead letter here."""
        found: dict[str, str] = {}
        group = OPERATIONS.c.dead_letter_group
        with self._engine.connect() as connection:
            for start in range(0, len(operation_ids), _IDS_AT_A_TIME):
                part = operation_ids[start : start + _IDS_AT_A_TIME]
                here = sa.select(OPERATIONS.c.id, group).where(
                    OPERATIONS.c.id.in_(part), _is_dead_letter(), visible(OPERATIONS.c)
                )
                found.update((row[0], row[1]) for row in connection.execute(here))
        return found

    def purge(self, limit: int) -> int:
        """Delete what is past its retention, at most `limit` operations; how many."""
        past = sa.select(OPERATIONS.c.id).where(OPERATIONS.c.keep_until_us <= now_us()).limit(limit)
        with self._engine.connect() as connection:
            ids = list(connection.scalars(past))
        if ids:
            with self._engine.begin() as connection:
                connection.execute(sa.delete(LABELS).where(LABELS.c.operation_id.in_(ids)))
                connection.execute(sa.delete(OPERATIONS).where(OPERATIONS.c.id.in_(ids)))
        return len(ids)


_IDS_AT_A_TIME: Final = 500


def _is_dead_letter() -> sa.ColumnElement[bool]:
    return OPERATIONS.c.dead_letter_group != EMPTY


def _described() -> sa.Select[Any]:
    columns = OPERATIONS.c
    described = columns.id, columns.operation, columns.replayed_by, columns.dead_letter_group
    return sa.select(*described).where(visible(columns))


def _stored(row: sa.Row[Any]) -> StoredOperation:
    stored = fields_of(row.operation)
    if row.replayed_by:
        stored[b"rep"] = row.replayed_by.encode()
    if not row.dead_letter_group:
        stored[b"dis"] = b"1"
    return stored


def _updates(new: sa.ColumnCollection[str, sa.ColumnElement[Any]]) -> dict[str, Any]:
    """All but the id; a replay that is known here is not forgotten."""
    replayed_by = sa.func.coalesce(sa.func.nullif(new["replayed_by"], ""), OPERATIONS.c.replayed_by)
    columns = (column.name for column in OPERATIONS.c if not column.primary_key)
    return {**{name: new[name] for name in columns}, "replayed_by": replayed_by}


_TOMBSTONE: Final[Mapping[str, Any]] = {
    **{column.name: 0 for column in OPERATIONS.c if isinstance(column.type, sa.Integer)},
    **{column.name: "" for column in OPERATIONS.c if isinstance(column.type, sa.Text)},
    "operation": b"",
    "deleted": True,
}


def _parameters(table: sa.Table) -> dict[str, Any]:
    return {column.name: sa.bindparam(column.name, type_=column.type) for column in table.c}


#: Of one row each, so that they are compiled once, whatever the size of a batch.
_KEEP: Final = upsert(
    OPERATIONS, _parameters(OPERATIONS), keys=["id"], update=_updates, where=OPERATIONS.c.deleted.is_(False)
)
_KEEP_LABELS: Final = insert_ignore(LABELS, _parameters(LABELS), ["key", "value", "operation_id"])
