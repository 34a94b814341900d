"""The tables of notify. Times are Unix microseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from chassis import history, outbox
from chassis.database import insert_ignore
from chassis.lineages import declare

METADATA: Final = sa.MetaData()
_ID: Final = sa.String(63)

history.tables(METADATA)
outbox.table(METADATA)
declare(METADATA, "notify", Path(__file__).with_name("revisions"))

TEMPLATES: Final = sa.Table(
    "templates",
    METADATA,
    sa.Column("template_id", _ID, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
)

# Outlive their template, so that an id and a version name one text for ever.
TEMPLATE_VERSIONS: Final = sa.Table(
    "template_versions",
    METADATA,
    sa.Column("template_id", _ID, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("html", sa.Text, nullable=False),
)

RECIPIENTS: Final = sa.Table(
    "recipients",
    METADATA,
    sa.Column("recipient_id", _ID, primary_key=True),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
    # A serialized waybill.notify.v1.Recipient, webhook secrets included.
    sa.Column("recipient", sa.LargeBinary, nullable=False),
)

SUBSCRIPTIONS: Final = sa.Table(
    "subscriptions",
    METADATA,
    sa.Column("subscription_id", _ID, primary_key=True),
    sa.Column("event_type", sa.String(255), nullable=False, index=True),
    sa.Column("template_id", _ID, sa.ForeignKey("templates.template_id"), nullable=False, index=True),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("update_time_us", sa.BigInteger, nullable=False),
    # A serialized waybill.notify.v1.EventSubscription.
    sa.Column("subscription", sa.LargeBinary, nullable=False),
)

SUBSCRIBED_RECIPIENTS: Final = sa.Table(
    "subscribed_recipients",
    METADATA,
    sa.Column(
        "subscription_id", _ID, sa.ForeignKey("subscriptions.subscription_id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("recipient_id", _ID, sa.ForeignKey("recipients.recipient_id"), primary_key=True, index=True),
)

DELIVERIES: Final = sa.Table(
    "deliveries",
    METADATA,
    # What the delivery's operation keys its effects by.
    sa.Column("effect_id", sa.String(36), primary_key=True),
    sa.Column("notification", sa.String(255), nullable=False),
    sa.Column("recipient_id", _ID, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    # Absent until delivered.
    sa.Column("deliver_time_us", sa.BigInteger),
    # A serialized waybill.notify.v1.Delivery.
    sa.Column("delivery", sa.LargeBinary, nullable=False),
    sa.Index("deliveries_by_time", "create_time_us", "effect_id"),
    sa.Index("deliveries_by_notification", "notification", "create_time_us"),
    sa.Index("deliveries_by_recipient", "recipient_id", "create_time_us"),
)

# What the first attempt of a notification found: a later one finds the same, whatever has changed meanwhile.
PLANS: Final = sa.Table(
    "plans",
    METADATA,
    sa.Column("operation_id", sa.String(36), primary_key=True),
    sa.Column("template_version", sa.Integer, nullable=False),
    # A serialized waybill.notify.v1.ListRecipientsResponse, without secrets.
    sa.Column("recipients", sa.LargeBinary, nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False, index=True),
)

# Secrets of recipients given in place: the operation's payload holds a reference instead.
SECRETS: Final = sa.Table(
    "secrets",
    METADATA,
    sa.Column("reference", sa.String(80), primary_key=True),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("use_time_us", sa.BigInteger, nullable=False, index=True),
)


def now_us() -> int:
    """The time, as the tables keep it."""
    return time.time_ns() // 1_000


def insert_new(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any], key: str) -> bool:
    """Insert a row unless its key is there; whether it was inserted."""
    # psycopg's count of an INSERT is dropped unless it is asked for.
    statement = insert_ignore(table, row, [key]).execution_options(preserve_rowcount=True)
    return connection.execute(statement).rowcount == 1
