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
from google.protobuf.message import DecodeError
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.archive_calls import Unarchived
from chassis.database import insert_ignore, upsert
from chassis.descriptions import StoredOperation, dead_letter_group, number, record_of
from chassis.telemetry import now_us

#: How long it is remembered that a client deleted an operation, so that no late archivist brings it back.
REMEMBER_DELETED: Final = timedelta(days=1)
#: Where the newest of a list stands, and where it goes on: the instant that it is ordered by, and the id.
Position = tuple[int, str]
#: (field, value), as filters name them: `("task", "reports.render_report")`, `("labels.team", "sre")`.
Condition = tuple[str, str]

#: Compared byte by byte, as the store compares ids.
_ID: Final = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")


def tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    """The archive of a service's database: operations, and their labels."""
    operations = sa.Table(
        "operations",
        metadata,
        sa.Column("id", _ID, primary_key=True),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        # Unix microseconds, as all times here.
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("end_time_us", sa.BigInteger, nullable=False),
        sa.Column("keep_until_us", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        # 32 hex digits.
        sa.Column("trace_id", sa.Text, nullable=False),
        # Operation names, or empty.
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("replayed_from", sa.Text, nullable=False),
        # Id of the last operation that replays it, or empty.
        sa.Column("replayed_by", sa.Text, nullable=False),
        sa.Column("error_code", sa.SmallInteger, nullable=False),
        sa.Column("error_reason", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        # Dead letters that failed alike; empty for what is no dead letter, or is discarded.
        sa.Column("dead_letter_group", sa.Text, nullable=False),
        # A client deleted it: a row that nobody sees, and that no archivist overwrites.
        sa.Column("deleted", sa.Boolean, nullable=False),
        # A serialized waybill.store.v1.ArchivedOperation.
        sa.Column("operation", sa.LargeBinary, nullable=False),
        sa.Index("operations_by_time", "create_time_us", "id"),
        sa.Index("operations_by_state", "state", "create_time_us", "id"),
        sa.Index("operations_by_task", "task", "create_time_us", "id"),
        sa.Index("operations_by_trace", "trace_id"),
        sa.Index("operations_by_retention", "keep_until_us"),
        _partial("operations_by_request", "request_id <> ''", "request_id"),
        _partial("operations_by_parent", "parent <> ''", "parent"),
        _partial("operations_dead", "dead_letter_group <> ''", "end_time_us", "id"),
    )
    labels = sa.Table(
        "operation_labels",
        metadata,
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("operation_id", _ID, primary_key=True),
        sa.Index("operation_labels_by_operation", "operation_id"),
        sqlite_with_rowid=False,
    )
    return operations, labels


def _partial(name: str, where: str, *columns: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


_OPERATIONS, _LABELS = tables(sa.MetaData())
_FILTERED: Final[Mapping[str, sa.Column[Any]]] = {
    **{name: _OPERATIONS.c[name] for name in ("task", "queue", "request_id", "trace_id", "parent", "replayed_by")},
    "group": _OPERATIONS.c.dead_letter_group,
}
#: What the store's lists are ordered by, by the name of its index.
_ORDER: Final[Mapping[str, sa.Column[int]]] = {
    "ops": _OPERATIONS.c.create_time_us,
    "dead": _OPERATIONS.c.end_time_us,
}


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
        rows, labels = [], []
        for item in ended:
            record = _record(item.stored)
            rows.append(_row(item, record))
            labels += _label_rows(item, record)
        if not rows:
            return
        with self._engine.begin() as connection:
            connection.execute(_KEEP, rows)
            if labels:
                connection.execute(_KEEP_LABELS, labels)

    def get(self, operation_id: str) -> StoredOperation | None:
        """None for what is not here, or past its retention."""
        with self._engine.connect() as connection:
            row = connection.execute(_visible().where(_OPERATIONS.c.id == operation_id)).first()
        return None if row is None else _stored(row)

    def page(
        self,
        index: str,
        conditions: Sequence[Condition],
        *,
        after: Position | None,
        until: Position | None,
        limit: int,
    ) -> list[tuple[Position, StoredOperation]]:
        """Newest first, what comes after `after`, up to `until` and including it."""
        order = _ORDER[index]
        position = sa.tuple_(order, _OPERATIONS.c.id)
        rows = _visible().add_columns(order.label("position"))
        if index == "dead":
            rows = rows.where(_is_dead_letter())
        if after is not None:
            rows = rows.where(position < sa.tuple_(*map(sa.literal, after)))
        if until is not None:
            rows = rows.where(position >= sa.tuple_(*map(sa.literal, until)))
        rows = rows.where(*map(_clause, conditions)).order_by(order.desc(), _OPERATIONS.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [((row.position, row.id), _stored(row)) for row in connection.execute(rows)]

    def discard(self, operation_ids: Sequence[str]) -> set[str]:
        """Take them off the dead letters, in one transaction; those that were such."""
        found: set[str] = set()
        with self._engine.begin() as connection:
            for start in range(0, len(operation_ids), _IDS_AT_A_TIME):
                part = operation_ids[start : start + _IDS_AT_A_TIME]
                dead = _OPERATIONS.c.id.in_(part), _is_dead_letter()
                discard = sa.update(_OPERATIONS).where(*dead).values(dead_letter_group="")
                found.update(connection.scalars(discard.returning(_OPERATIONS.c.id)))
        return found

    def note_replays(self, replays: Mapping[str, str]) -> None:
        """`replays`: the replay's id by that of the original."""
        with self._engine.begin() as connection:
            for original, replay in replays.items():
                connection.execute(
                    sa.update(_OPERATIONS).where(_OPERATIONS.c.id == original).values(replayed_by=replay)
                )

    def delete(self, operation_id: str, *, was_live: bool) -> bool:
        """Forget it and remember that; whether there was anything to forget here.

        `was_live`: the store had it, so that an archivist may be about to bring it.
        """
        until = now_us() + REMEMBER_DELETED // timedelta(microseconds=1)
        with self._engine.begin() as connection:
            seen = _OPERATIONS.c.id == operation_id, _OPERATIONS.c.deleted.is_(False), _kept()
            there = connection.scalar(sa.select(_OPERATIONS.c.id).where(*seen)) is not None
            if there or was_live:
                tombstone = {**_TOMBSTONE, "id": operation_id, "keep_until_us": until}
                connection.execute(upsert(_OPERATIONS, tombstone, keys=["id"], update=[*_TOMBSTONE, "keep_until_us"]))
                connection.execute(sa.delete(_LABELS).where(_LABELS.c.operation_id == operation_id))
        return there

    def groups(self) -> list[Group]:
        """Of all dead letters here."""
        group = _OPERATIONS.c.dead_letter_group
        counts = (
            sa.select(group, sa.func.count().label("count"), sa.func.max(_OPERATIONS.c.end_time_us).label("newest_us"))
            .where(_is_dead_letter(), _OPERATIONS.c.deleted.is_(False), _kept())
            .group_by(group)
        )
        with self._engine.connect() as connection:
            return [Group(row.dead_letter_group, row[1], row.newest_us) for row in connection.execute(counts)]

    def groups_of(self, operation_ids: Sequence[str]) -> dict[str, str]:
        """The group of each that is a dead letter here."""
        found: dict[str, str] = {}
        group = _OPERATIONS.c.dead_letter_group
        with self._engine.connect() as connection:
            for start in range(0, len(operation_ids), _IDS_AT_A_TIME):
                part = operation_ids[start : start + _IDS_AT_A_TIME]
                here = sa.select(_OPERATIONS.c.id, group).where(_OPERATIONS.c.id.in_(part), _is_dead_letter(), _kept())
                found.update((row[0], row[1]) for row in connection.execute(here))
        return found

    def purge(self, limit: int) -> int:
        """Delete what is past its retention, at most `limit` operations; how many."""
        past = sa.select(_OPERATIONS.c.id).where(_OPERATIONS.c.keep_until_us <= now_us()).limit(limit)
        with self._engine.connect() as connection:
            ids = list(connection.scalars(past))
        if ids:
            with self._engine.begin() as connection:
                connection.execute(sa.delete(_LABELS).where(_LABELS.c.operation_id.in_(ids)))
                connection.execute(sa.delete(_OPERATIONS).where(_OPERATIONS.c.id.in_(ids)))
        return len(ids)


_IDS_AT_A_TIME: Final = 500
#: As a literal, not as a parameter, so that a database sees that a partial index serves.
_EMPTY: Final[sa.ColumnElement[str]] = sa.literal_column("''")
_PARTLY_INDEXED: Final = frozenset({"request_id", "parent"})


def _is_dead_letter() -> sa.ColumnElement[bool]:
    return _OPERATIONS.c.dead_letter_group != _EMPTY


def _kept() -> sa.ColumnElement[bool]:
    return _OPERATIONS.c.keep_until_us > now_us()


def _visible() -> sa.Select[Any]:
    columns = _OPERATIONS.c
    return sa.select(columns.id, columns.operation, columns.replayed_by, columns.dead_letter_group).where(
        columns.deleted.is_(False), _kept()
    )


def _clause(condition: Condition) -> sa.ColumnElement[bool]:
    field, value = condition
    value = _text(value)
    if field == "state":
        return _OPERATIONS.c.state == int(value)
    if field.startswith("labels."):
        labelled = _LABELS.c.key == field.removeprefix("labels."), _LABELS.c.value == value
        return _OPERATIONS.c.id.in_(sa.select(_LABELS.c.operation_id).where(*labelled))
    if value and field in _PARTLY_INDEXED:
        return sa.and_(_FILTERED[field] == value, _FILTERED[field] != _EMPTY)
    return _FILTERED[field] == value


def _stored(row: sa.Row[Any]) -> StoredOperation:
    stored = dict(store_pb2.ArchivedOperation.FromString(row.operation).fields)
    if row.replayed_by:
        stored["rep"] = row.replayed_by.encode()
    if not row.dead_letter_group:
        stored["dis"] = b"1"
    return {field.encode(): value for field, value in stored.items()}


def _row(item: Unarchived, record: store_pb2.OperationRecord) -> dict[str, Any]:
    stored = item.stored
    failed = number(stored, b"st") == ops.OPERATION_STATE_FAILED
    succeeded = number(stored, b"st") == ops.OPERATION_STATE_SUCCEEDED
    end_us = number(stored, b"et")
    fields = {field.decode(): value for field, value in stored.items() if field != b"rep"}
    return {
        "id": item.operation_id,
        "task": _text(stored.get(b"task")),
        "queue": _text(stored.get(b"q")),
        "state": number(stored, b"st"),
        "create_time_us": number(stored, b"ct"),
        "end_time_us": end_us,
        "keep_until_us": end_us + number(stored, b"kf" if failed else b"ks"),
        "request_id": _text(record.request_id),
        "trace_id": _text(stored.get(b"tr")).partition("/")[0],
        "parent": _text(record.parent),
        "replayed_from": _text(record.replayed_from),
        "replayed_by": _text(stored.get(b"rep")),
        "error_code": 0 if succeeded else number(stored, b"ec"),
        "error_reason": "" if succeeded else _text(stored.get(b"er")),
        "error_message": "" if succeeded else _text(stored.get(b"em")),
        "dead_letter_group": _text(dead_letter_group(stored)),
        "deleted": False,
        "operation": store_pb2.ArchivedOperation(fields=fields).SerializeToString(),
    }


def _updates(new: sa.ColumnCollection[str, sa.ColumnElement[Any]]) -> dict[str, Any]:
    """All but the id; a replay that is known here is not forgotten."""
    replayed_by = sa.func.coalesce(sa.func.nullif(new["replayed_by"], ""), _OPERATIONS.c.replayed_by)
    columns = (column.name for column in _OPERATIONS.c if not column.primary_key)
    return {**{name: new[name] for name in columns}, "replayed_by": replayed_by}


def _label_rows(item: Unarchived, record: store_pb2.OperationRecord) -> list[dict[str, str]]:
    pairs = record.labels.items()
    return [{"key": key, "value": _text(value), "operation_id": item.operation_id} for key, value in pairs]


def _record(stored: StoredOperation) -> store_pb2.OperationRecord:
    """The empty one where it cannot be read: that must not hold up all that follow."""
    try:
        return record_of(stored)
    except (KeyError, DecodeError):
        return store_pb2.OperationRecord()


def _text(value: str | bytes | None) -> str:
    """As both databases take it: UTF-8 without NUL."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value or ""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


_TOMBSTONE: Final[Mapping[str, Any]] = {
    **{column.name: 0 for column in _OPERATIONS.c if isinstance(column.type, sa.Integer)},
    **{column.name: "" for column in _OPERATIONS.c if isinstance(column.type, sa.Text)},
    "operation": b"",
    "deleted": True,
}


def _parameters(table: sa.Table) -> dict[str, Any]:
    return {column.name: sa.bindparam(column.name, type_=column.type) for column in table.c}


#: Of one row each, so that they are compiled once, whatever the size of a batch.
_KEEP: Final = upsert(
    _OPERATIONS, _parameters(_OPERATIONS), keys=["id"], update=_updates, where=_OPERATIONS.c.deleted.is_(False)
)
_KEEP_LABELS: Final = insert_ignore(_LABELS, _parameters(_LABELS), ["key", "value", "operation_id"])
