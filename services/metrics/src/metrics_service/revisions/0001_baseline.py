"""The tables as they were before revisions were counted; those that are there are taken over."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "alert_rules",
        sa.Column("rule_id", sa.String(length=63), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("matchers", sa.Text(), nullable=False),
        sa.Column("aggregation", sa.SmallInteger(), nullable=False),
        sa.Column("comparison", sa.SmallInteger(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("window_us", sa.BigInteger(), nullable=False),
        sa.Column("for_us", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("annotations", sa.Text(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("update_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rule_id"),
        if_not_exists=True,
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.String(length=36), nullable=False),
        sa.Column("rule_id", sa.String(length=63), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("series_labels", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("annotations", sa.Text(), nullable=False),
        sa.Column("comparison", sa.SmallInteger(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("worst_value", sa.Double(), nullable=False),
        sa.Column("value_time_us", sa.BigInteger(), nullable=False),
        sa.Column("breach_time_us", sa.BigInteger(), nullable=False),
        sa.Column("fire_time_us", sa.BigInteger(), nullable=True),
        sa.Column("resolve_time_us", sa.BigInteger(), nullable=True),
        sa.Column("traceparent", sa.String(length=55), nullable=False),
        sa.PrimaryKeyConstraint("alert_id"),
        if_not_exists=True,
    )
    op.create_index("alerts_by_rule", "alerts", ["rule_id", "alert_id"], if_not_exists=True)
    op.create_index("alerts_by_state", "alerts", ["state", "alert_id"], if_not_exists=True)
    op.create_table(
        "applied_batches",
        sa.Column("batch_id", sa.String(length=36), nullable=False),
        sa.Column("apply_time_us", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.Integer(), nullable=False),
        sa.Column("dropped_late", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id"),
        if_not_exists=True,
    )
    op.create_index("applied_batches_by_age", "applied_batches", ["apply_time_us"], if_not_exists=True)
    op.create_table(
        "evaluation",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("evaluated", sa.Integer(), nullable=False),
        sa.Column("fired", sa.Integer(), nullable=False),
        sa.Column("resolved", sa.Integer(), nullable=False),
        sa.Column("prune_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )
    op.create_table(
        "rollup_10_seconds",
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("last", sa.Double(), nullable=False),
        sa.Column("last_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "bucket"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("rollup_10_seconds_by_age", "rollup_10_seconds", ["bucket"], if_not_exists=True)
    op.create_table(
        "rollup_1_hour",
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("last", sa.Double(), nullable=False),
        sa.Column("last_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "bucket"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("rollup_1_hour_by_age", "rollup_1_hour", ["bucket"], if_not_exists=True)
    op.create_table(
        "rollup_1_minute",
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("last", sa.Double(), nullable=False),
        sa.Column("last_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "bucket"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("rollup_1_minute_by_age", "rollup_1_minute", ["bucket"], if_not_exists=True)
    op.create_table(
        "series",
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("first_time_us", sa.BigInteger(), nullable=False),
        sa.Column("last_time_us", sa.BigInteger(), nullable=False),
        sa.Column("last_value", sa.Double(), nullable=False),
        sa.Column("traceparent", sa.String(length=55), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("series_by_metric", "series", ["metric", "fingerprint"], if_not_exists=True)
