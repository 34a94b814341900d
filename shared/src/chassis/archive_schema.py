"""The tables of the archive, and how an operation becomes a row of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from waybill.operations.v1 import operations_pb2 as ops
from waybill.store.v1 import store_pb2

from chassis.archive_calls import Unarchived
from chassis.descriptions import StoredOperation, dead_letter_group, number
from chassis.facts import Facts, plain
from chassis.lineages import declare

#: Compared byte by byte, as the store compares ids.
_ID: Final = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
#: As literals, not as parameters, so that a database sees that a partial index serves.
EMPTY: Final[sa.ColumnElement[str]] = sa.literal_column("''")
SUCCEEDED: Final[sa.ColumnElement[int]] = sa.literal_column(str(int(ops.OPERATION_STATE_SUCCEEDED)))


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
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        # From when it was due to the begin of its first attempt; null when none began.
        sa.Column("wait_us", sa.BigInteger),
        # From when it was due to its end.
        sa.Column("total_us", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        # See Facts.search_text.
        sa.Column("search_text", sa.Text, nullable=False, server_default=sa.text("''")),
        # A serialized waybill.store.v1.ArchivedOperation.
        sa.Column("operation", sa.LargeBinary, nullable=False),
        sa.Index("operations_by_time", "create_time_us", "id"),
        sa.Index("operations_by_state", "state", "create_time_us", "id"),
        sa.Index("operations_by_task", "task", "create_time_us", "id"),
        sa.Index("operations_by_queue", "queue", "create_time_us", "id"),
        sa.Index("operations_by_trace", "trace_id"),
        sa.Index("operations_by_end", "end_time_us", "id"),
        sa.Index("operations_by_retention", "keep_until_us"),
        _partial("operations_by_request", "request_id <> ''", "request_id"),
        _partial("operations_by_parent", "parent <> ''", "parent"),
        _partial("operations_unsuccessful", f"state <> {SUCCEEDED}", "create_time_us", "id"),
        _partial("operations_dead", "dead_letter_group <> ''", "end_time_us", "id"),
        # With all that the groups are counted by.
        _partial(
            "operations_dead_by_group",
            "dead_letter_group <> ''",
            *("dead_letter_group", "end_time_us", "id", "keep_until_us", "deleted"),
        ),
    )
    labels = sa.Table(
        "operation_labels",
        metadata,
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("operation_id", _ID, primary_key=True),
        # That of its operation.
        sa.Column("create_time_us", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Index("operation_labels_by_operation", "operation_id"),
        sa.Index("operation_labels_by_time", "key", "value", "create_time_us", "operation_id"),
        sqlite_with_rowid=False,
    )
    declare(metadata, "archive", Path(__file__).parent / "revisions" / "archive")
    return operations, labels


def _partial(name: str, where: str, *columns: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def row_of(item: Unarchived, facts: Facts) -> dict[str, Any]:
    """Its row in `operations`."""
    stored = item.stored
    failed = facts.state == ops.OPERATION_STATE_FAILED
    fields = {field.decode(): value for field, value in stored.items() if field != b"rep"}
    return {
        "id": item.operation_id,
        "task": facts.task,
        "queue": facts.queue,
        "state": facts.state,
        "create_time_us": facts.create_time_us,
        "end_time_us": facts.end_time_us,
        "keep_until_us": facts.end_time_us + number(stored, b"kf" if failed else b"ks"),
        "request_id": facts.request_id,
        "trace_id": facts.trace_id,
        "parent": facts.parent,
        "replayed_from": facts.replayed_from,
        "replayed_by": plain(stored.get(b"rep")),
        "error_code": 0 if facts.state == ops.OPERATION_STATE_SUCCEEDED else number(stored, b"ec"),
        "error_reason": facts.error_reason,
        "error_message": facts.error_message,
        "dead_letter_group": plain(dead_letter_group(stored)),
        "deleted": False,
        "operation": store_pb2.ArchivedOperation(fields=fields).SerializeToString(),
        **derived_from(stored, facts),
    }


def derived_from(stored: StoredOperation, facts: Facts) -> dict[str, Any]:
    """The columns that are derived from what `operation` holds."""
    return {
        "attempts": number(stored, b"at"),
        "wait_us": facts.wait_us,
        "total_us": facts.total_us,
        "search_text": facts.search_text,
    }


def label_rows(item: Unarchived, facts: Facts) -> list[dict[str, Any]]:
    """Its rows in `operation_labels`."""
    known = {"operation_id": item.operation_id, "create_time_us": facts.create_time_us}
    return [{"key": key, "value": value, **known} for key, value in facts.labels.items()]


def fields_of(operation: bytes) -> dict[bytes, bytes]:
    """The store's hash, from the column `operation`."""
    return {field.encode(): value for field, value in store_pb2.ArchivedOperation.FromString(operation).fields.items()}


METADATA: Final = sa.MetaData()
OPERATIONS, LABELS = tables(METADATA)
