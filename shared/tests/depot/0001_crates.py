"""Crates, and the boxes in them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "crates",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "boxes",
        sa.Column("crate", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["crate"], ["crates.name"]),
    )
