"""Rows that an earlier version has archived get what a later one derives from an operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from chassis.archive_schema import LABELS, OPERATIONS, derived_from, fields_of
from chassis.facts import facts_of

#: Rows that are brought up to date at a time.
_BATCH: Final = 1_000


def derive(connection: sa.Connection, names: Sequence[str]) -> None:
    """Fill these columns of `operations` anew; a million operations take about a minute."""
    update = sa.update(OPERATIONS).where(OPERATIONS.c.id == sa.bindparam("of_id"))
    update = update.values({name: sa.bindparam(name) for name in names})
    for rows in _derived(connection, names):
        connection.execute(update, rows)


def date_labels(connection: sa.Connection) -> None:
    """Give each label the time of its operation."""
    created = sa.select(OPERATIONS.c.create_time_us).where(OPERATIONS.c.id == LABELS.c.operation_id)
    connection.execute(sa.update(LABELS).values(create_time_us=sa.func.coalesce(created.scalar_subquery(), 0)))


def _derived(connection: sa.Connection, names: Sequence[str]) -> Iterator[list[Mapping[str, Any]]]:
    last = ""
    batch = sa.select(OPERATIONS.c.id, OPERATIONS.c.operation).where(OPERATIONS.c.deleted.is_(False))
    batch = batch.order_by(OPERATIONS.c.id).limit(_BATCH)
    while rows := connection.execute(batch.where(OPERATIONS.c.id > last)).all():
        yield [{"of_id": row.id, **_derived_again(row.operation, names)} for row in rows]
        last = rows[-1].id


def _derived_again(operation: bytes, names: Sequence[str]) -> dict[str, Any]:
    stored = fields_of(operation)
    derived = derived_from(stored, facts_of(stored))
    return {name: derived[name] for name in names}
