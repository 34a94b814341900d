"""What the sample did."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("operation_id", sa.String(length=36)),
        sa.Column("attempt", sa.Integer()),
        sa.Column("pid", sa.Integer()),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_table(
        "effects",
        sa.Column("effect_id", sa.String(length=36), nullable=False),
        sa.Column("operation_id", sa.String(length=36)),
        sa.PrimaryKeyConstraint("effect_id"),
    )
