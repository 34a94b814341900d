"""The archive as it was before revisions were counted; what an earlier version has made grows to it."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from chassis import archive_growth

revision = "0001"
down_revision = None

_ID = sa.String(length=36).with_variant(sa.String(length=36, collation="C"), "postgresql")
_ADDED = (
    sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
    sa.Column("wait_us", sa.BigInteger(), nullable=True),
    sa.Column("total_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    sa.Column("search_text", sa.Text(), server_default=sa.text("''"), nullable=False),
)
_DATED = sa.Column("create_time_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    _create_tables()
    # A script for others to run has no database to look at.
    if not op.get_context().as_sql:
        _grow(op.get_bind())
    _create_indexes()


def _grow(connection: sa.Connection) -> None:
    if added := [column for column in _ADDED if _add("operations", column)]:
        archive_growth.derive(connection, [column.name for column in added])
    if _add("operation_labels", _DATED):
        archive_growth.date_labels(connection)


def _add(table: str, column: sa.Column[Any]) -> bool:
    """Whether it was not there."""
    if any(there["name"] == column.name for there in sa.inspect(op.get_bind()).get_columns(table)):
        return False
    op.add_column(table, column)
    return True


def _create_tables() -> None:
    op.create_table(
        "operation_labels",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("operation_id", _ID, nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("key", "value", "operation_id"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_table(
        "operations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("end_time_us", sa.BigInteger(), nullable=False),
        sa.Column("keep_until_us", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("replayed_from", sa.Text(), nullable=False),
        sa.Column("replayed_by", sa.Text(), nullable=False),
        sa.Column("error_code", sa.SmallInteger(), nullable=False),
        sa.Column("error_reason", sa.Text(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("dead_letter_group", sa.Text(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("wait_us", sa.BigInteger(), nullable=True),
        sa.Column("total_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("search_text", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("operation", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )


def _create_indexes() -> None:
    op.create_index("operation_labels_by_operation", "operation_labels", ["operation_id"], if_not_exists=True)
    op.create_index(
        "operation_labels_by_time",
        "operation_labels",
        ["key", "value", "create_time_us", "operation_id"],
        if_not_exists=True,
    )
    op.create_index("operations_by_end", "operations", ["end_time_us", "id"], if_not_exists=True)
    op.create_index(
        "operations_by_parent",
        "operations",
        ["parent"],
        sqlite_where=sa.text("parent <> ''"),
        postgresql_where=sa.text("parent <> ''"),
        if_not_exists=True,
    )
    op.create_index("operations_by_queue", "operations", ["queue", "create_time_us", "id"], if_not_exists=True)
    op.create_index(
        "operations_by_request",
        "operations",
        ["request_id"],
        sqlite_where=sa.text("request_id <> ''"),
        postgresql_where=sa.text("request_id <> ''"),
        if_not_exists=True,
    )
    op.create_index("operations_by_retention", "operations", ["keep_until_us"], if_not_exists=True)
    op.create_index("operations_by_state", "operations", ["state", "create_time_us", "id"], if_not_exists=True)
    op.create_index("operations_by_task", "operations", ["task", "create_time_us", "id"], if_not_exists=True)
    op.create_index("operations_by_time", "operations", ["create_time_us", "id"], if_not_exists=True)
    op.create_index("operations_by_trace", "operations", ["trace_id"], if_not_exists=True)
    op.create_index(
        "operations_dead",
        "operations",
        ["end_time_us", "id"],
        sqlite_where=sa.text("dead_letter_group <> ''"),
        postgresql_where=sa.text("dead_letter_group <> ''"),
        if_not_exists=True,
    )
    op.create_index(
        "operations_dead_by_group",
        "operations",
        ["dead_letter_group", "end_time_us", "id", "keep_until_us", "deleted"],
        sqlite_where=sa.text("dead_letter_group <> ''"),
        postgresql_where=sa.text("dead_letter_group <> ''"),
        if_not_exists=True,
    )
    op.create_index(
        "operations_unsuccessful",
        "operations",
        ["create_time_us", "id"],
        sqlite_where=sa.text("state <> 5"),
        postgresql_where=sa.text("state <> 5"),
        if_not_exists=True,
    )
