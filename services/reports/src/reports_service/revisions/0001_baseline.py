"""The tables as they were before revisions were counted; those that are there are taken over."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("report_id", sa.String(length=36), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("alert_id", sa.String(length=36), nullable=False),
        sa.Column("report", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("report_id"),
        if_not_exists=True,
    )
    op.create_index("reports_by_time", "reports", ["create_time_us", "report_id"], if_not_exists=True)
