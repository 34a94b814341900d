"""The tables as they were before revisions were counted; those that are there are taken over."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("principal", sa.String(length=255), nullable=False),
        sa.Column("via", sa.String(length=15), nullable=False),
        sa.Column("action", sa.String(length=63), nullable=False),
        sa.Column("service", sa.String(length=63), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=15), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=127), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("audit_entries_by_action", "audit_entries", ["action", "id"], if_not_exists=True)
    op.create_index("ix_audit_entries_time_us", "audit_entries", ["time_us"], if_not_exists=True)
