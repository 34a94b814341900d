"""The tables as they were before revisions were counted; those that are there are taken over."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("effect_id", sa.String(length=36), nullable=False),
        sa.Column("notification", sa.String(length=255), nullable=False),
        sa.Column("recipient_id", sa.String(length=63), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("deliver_time_us", sa.BigInteger(), nullable=True),
        sa.Column("delivery", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("effect_id"),
        if_not_exists=True,
    )
    op.create_index("deliveries_by_notification", "deliveries", ["notification", "create_time_us"], if_not_exists=True)
    op.create_index("deliveries_by_recipient", "deliveries", ["recipient_id", "create_time_us"], if_not_exists=True)
    op.create_index("deliveries_by_time", "deliveries", ["create_time_us", "effect_id"], if_not_exists=True)
    op.create_table(
        "plans",
        sa.Column("operation_id", sa.String(length=36), nullable=False),
        sa.Column("template_version", sa.Integer(), nullable=False),
        sa.Column("recipients", sa.LargeBinary(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("operation_id"),
        if_not_exists=True,
    )
    op.create_index("ix_plans_create_time_us", "plans", ["create_time_us"], if_not_exists=True)
    op.create_table(
        "recipients",
        sa.Column("recipient_id", sa.String(length=63), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("update_time_us", sa.BigInteger(), nullable=False),
        sa.Column("recipient", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("recipient_id"),
        if_not_exists=True,
    )
    op.create_table(
        "secrets",
        sa.Column("reference", sa.String(length=80), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("use_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference"),
        if_not_exists=True,
    )
    op.create_index("ix_secrets_use_time_us", "secrets", ["use_time_us"], if_not_exists=True)
    op.create_table(
        "template_versions",
        sa.Column("template_id", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("template_id", "version"),
        if_not_exists=True,
    )
    op.create_table(
        "templates",
        sa.Column("template_id", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("update_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("template_id"),
        if_not_exists=True,
    )
    op.create_table(
        "subscriptions",
        sa.Column("subscription_id", sa.String(length=63), nullable=False),
        sa.Column("event_type", sa.String(length=255), nullable=False),
        sa.Column("template_id", sa.String(length=63), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("update_time_us", sa.BigInteger(), nullable=False),
        sa.Column("subscription", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["templates.template_id"],
        ),
        sa.PrimaryKeyConstraint("subscription_id"),
        if_not_exists=True,
    )
    op.create_index("ix_subscriptions_event_type", "subscriptions", ["event_type"], if_not_exists=True)
    op.create_index("ix_subscriptions_template_id", "subscriptions", ["template_id"], if_not_exists=True)
    op.create_table(
        "subscribed_recipients",
        sa.Column("subscription_id", sa.String(length=63), nullable=False),
        sa.Column("recipient_id", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["recipient_id"],
            ["recipients.recipient_id"],
        ),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.subscription_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subscription_id", "recipient_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_subscribed_recipients_recipient_id",
        "subscribed_recipients",
        ["recipient_id"],
        if_not_exists=True,
    )
