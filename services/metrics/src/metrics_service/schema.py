"""The tables of the metrics service. Instants are microseconds since 1970, buckets seconds since 1970."""

from pathlib import Path

import sqlalchemy as sa
from chassis import history, outbox
from chassis.lineages import declare

from metrics_service.rollups import Resolution

METADATA = sa.MetaData()

OUTBOX = outbox.table(METADATA)
history.tables(METADATA)
declare(METADATA, "metrics", Path(__file__).with_name("revisions"))

SERIES = sa.Table(
    "series",
    METADATA,
    sa.Column("fingerprint", sa.LargeBinary(16), primary_key=True),
    sa.Column("metric", sa.Text, nullable=False),
    # JSON list of [name, value], sorted.
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("first_time_us", sa.BigInteger, nullable=False),
    sa.Column("last_time_us", sa.BigInteger, nullable=False),
    sa.Column("last_value", sa.Double, nullable=False),
    # Of the attempt that added to it last.
    sa.Column("traceparent", sa.String(55), nullable=False),
    sa.Index("series_by_metric", "metric", "fingerprint"),
    sqlite_with_rowid=False,
)


def _rollup_table(name: str) -> sa.Table:
    return sa.Table(
        name,
        METADATA,
        sa.Column("fingerprint", sa.LargeBinary(16), primary_key=True),
        sa.Column("bucket", sa.BigInteger, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("last", sa.Double, nullable=False),
        sa.Column("last_time_us", sa.BigInteger, nullable=False),
        # For pruning, which goes by age alone.
        sa.Index(f"{name}_by_age", "bucket"),
        sqlite_with_rowid=False,
    )


ROLLUPS = {
    Resolution.TEN_SECONDS: _rollup_table("rollup_10_seconds"),
    Resolution.ONE_MINUTE: _rollup_table("rollup_1_minute"),
    Resolution.ONE_HOUR: _rollup_table("rollup_1_hour"),
}

# A batch is applied in the transaction that writes its id here, so at most once.
APPLIED_BATCHES = sa.Table(
    "applied_batches",
    METADATA,
    sa.Column("batch_id", sa.String(36), primary_key=True),
    sa.Column("apply_time_us", sa.BigInteger, nullable=False),
    sa.Column("applied", sa.Integer, nullable=False),
    sa.Column("dropped_late", sa.Integer, nullable=False),
    sa.Index("applied_batches_by_age", "apply_time_us"),
)

ALERT_RULES = sa.Table(
    "alert_rules",
    METADATA,
    sa.Column("rule_id", sa.String(63), primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    # JSON list of [label, operator, value].
    sa.Column("matchers", sa.Text, nullable=False),
    sa.Column("aggregation", sa.SmallInteger, nullable=False),
    sa.Column("comparison", sa.SmallInteger, nullable=False),
    sa.Column("threshold", sa.Double, nullable=False),
    sa.Column("window_us", sa.BigInteger, nullable=False),
    sa.Column("for_us", sa.BigInteger, nullable=False),
    # JSON lists of [name, value], sorted.
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("annotations", sa.Text, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
)

ALERTS = sa.Table(
    "alerts",
    METADATA,
    # UUIDv7 of the begin of the breach: their order is that of time.
    sa.Column("alert_id", sa.String(36), primary_key=True),
    sa.Column("rule_id", sa.String(63), nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("series_labels", sa.Text, nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("annotations", sa.Text, nullable=False),
    sa.Column("comparison", sa.SmallInteger, nullable=False),
    sa.Column("threshold", sa.Double, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("worst_value", sa.Double, nullable=False),
    sa.Column("value_time_us", sa.BigInteger, nullable=False),
    sa.Column("breach_time_us", sa.BigInteger, nullable=False),
    sa.Column("fire_time_us", sa.BigInteger),
    sa.Column("resolve_time_us", sa.BigInteger),
    # Of the event that said it fired; the event that says it is resolved continues it.
    sa.Column("traceparent", sa.String(55), nullable=False),
    sa.Index("alerts_by_state", "state", "alert_id"),
    sa.Index("alerts_by_rule", "rule_id", "alert_id"),
)

# One row: the last evaluation, and when rows past their retention were last deleted.
EVALUATION = sa.Table(
    "evaluation",
    METADATA,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("evaluated", sa.Integer, nullable=False),
    sa.Column("fired", sa.Integer, nullable=False),
    sa.Column("resolved", sa.Integer, nullable=False),
    sa.Column("prune_time_us", sa.BigInteger, nullable=False),
)
