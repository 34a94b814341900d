"""Event subscriptions. What they name exists: the database holds them to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from chassis.errors import AlreadyExists
from waybill.notify.v1 import notify_pb2

from notify_service.references import raise_if_missing, subscription_not_found
from notify_service.schema import RECIPIENTS, SUBSCRIBED_RECIPIENTS, SUBSCRIPTIONS, TEMPLATES, insert_new, now_us


class Subscriptions:
    """NotFound's reason is SUBSCRIPTION_NOT_FOUND, or that of the template or recipients that are missing."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, subscription: notify_pb2.EventSubscription) -> notify_pb2.EventSubscription:
        """Raises AlreadyExists, and NotFound for what it names."""
        now = now_us()
        row = {**_columns(subscription), "create_time_us": now, "update_time_us": now}
        with self._engine.begin() as connection:
            _check_references(connection, subscription)
            if not insert_new(connection, SUBSCRIPTIONS, row, "subscription_id"):
                raise AlreadyExists(
                    f"subscription {subscription.subscription_id!r} exists already",
                    reason="SUBSCRIPTION_EXISTS",
                    metadata={"subscription_id": subscription.subscription_id},
                )
            _name_recipients(connection, subscription)
            return _require(connection, subscription.subscription_id)

    def update(self, subscription: notify_pb2.EventSubscription) -> notify_pb2.EventSubscription:
        """Replaces the subscription whole. Raises NotFound, for what it names too."""
        subscription_id = subscription.subscription_id
        with self._engine.begin() as connection:
            _require(connection, subscription_id)
            _check_references(connection, subscription)
            changed = sa.update(SUBSCRIPTIONS).where(SUBSCRIPTIONS.c.subscription_id == subscription_id)
            connection.execute(changed.values({**_columns(subscription), "update_time_us": now_us()}))
            connection.execute(
                sa.delete(SUBSCRIBED_RECIPIENTS).where(SUBSCRIBED_RECIPIENTS.c.subscription_id == subscription_id)
            )
            _name_recipients(connection, subscription)
            return _require(connection, subscription_id)

    def get(self, subscription_id: str) -> notify_pb2.EventSubscription:
        """Raises NotFound."""
        with self._engine.connect() as connection:
            return _require(connection, subscription_id)

    def page(self, size: int, after: Sequence[Any] = ()) -> list[notify_pb2.EventSubscription]:
        """At most `size`, by id; `after` is the id of the one before, if any."""
        rows = sa.select(SUBSCRIPTIONS).order_by(SUBSCRIPTIONS.c.subscription_id).limit(size)
        rows = rows.where(SUBSCRIPTIONS.c.subscription_id > after[0]) if after else rows
        with self._engine.connect() as connection:
            return [_subscription(row) for row in connection.execute(rows).mappings()]

    def delete(self, subscription_id: str) -> None:
        """Raises NotFound."""
        gone = sa.delete(SUBSCRIPTIONS).where(SUBSCRIPTIONS.c.subscription_id == subscription_id)
        with self._engine.begin() as connection:
            if not connection.execute(gone).rowcount:
                raise subscription_not_found(subscription_id)

    def wanted_types(self) -> set[str]:
        """The event types of the subscriptions that are not disabled."""
        rows = sa.select(SUBSCRIPTIONS.c.event_type).where(sa.not_(SUBSCRIPTIONS.c.disabled)).distinct()
        with self._engine.connect() as connection:
            return set(connection.scalars(rows))

    def wanting(self, event_type: str) -> list[notify_pb2.EventSubscription]:
        """The subscriptions to that type that are not disabled, by id."""
        rows = sa.select(SUBSCRIPTIONS).order_by(SUBSCRIPTIONS.c.subscription_id)
        rows = rows.where(SUBSCRIPTIONS.c.event_type == event_type, sa.not_(SUBSCRIPTIONS.c.disabled))
        with self._engine.connect() as connection:
            return [_subscription(row) for row in connection.execute(rows).mappings()]


def _check_references(connection: sa.Connection, subscription: notify_pb2.EventSubscription) -> None:
    # Locked where the database locks rows: none of them is deleted before this transaction ends.
    template = sa.select(TEMPLATES.c.template_id).where(TEMPLATES.c.template_id == subscription.template_id)
    template_known = connection.scalar(template.with_for_update(read=True, key_share=True)) is not None
    wanted = list(subscription.recipient_ids)
    rows = sa.select(RECIPIENTS.c.recipient_id).where(RECIPIENTS.c.recipient_id.in_(wanted))
    known = set(connection.scalars(rows.with_for_update(read=True, key_share=True)))
    missing = [recipient_id for recipient_id in wanted if recipient_id not in known]
    raise_if_missing(subscription.template_id, template_known=template_known, missing_recipients=missing)


def _name_recipients(connection: sa.Connection, subscription: notify_pb2.EventSubscription) -> None:
    rows = [
        {"subscription_id": subscription.subscription_id, "recipient_id": recipient_id}
        for recipient_id in subscription.recipient_ids
    ]
    connection.execute(sa.insert(SUBSCRIBED_RECIPIENTS), rows)


def _require(connection: sa.Connection, subscription_id: str) -> notify_pb2.EventSubscription:
    row = sa.select(SUBSCRIPTIONS).where(SUBSCRIPTIONS.c.subscription_id == subscription_id)
    stored = connection.execute(row).mappings().one_or_none()
    if stored is None:
        raise subscription_not_found(subscription_id)
    return _subscription(stored)


def _columns(subscription: notify_pb2.EventSubscription) -> dict[str, Any]:
    kept = notify_pb2.EventSubscription()
    kept.CopyFrom(subscription)
    kept.ClearField("create_time")
    kept.ClearField("update_time")
    return {
        "subscription_id": subscription.subscription_id,
        "event_type": subscription.event_type,
        "template_id": subscription.template_id,
        "disabled": subscription.disabled,
        "subscription": kept.SerializeToString(deterministic=True),
    }


def _subscription(row: sa.RowMapping) -> notify_pb2.EventSubscription:
    subscription = notify_pb2.EventSubscription.FromString(row["subscription"])
    subscription.create_time.FromMicroseconds(row["create_time_us"])
    subscription.update_time.FromMicroseconds(row["update_time_us"])
    return subscription
