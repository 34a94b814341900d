"""Deliveries: one row for each effect, and the event that a delivered one owes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from chassis import outbox
from chassis.database import insert_ignore
from chassis.outbox import OwingAttempt
from waybill.notify.v1 import notify_pb2

from notify_service.schema import DELIVERIES, PLANS, SECRETS, now_us

DELIVERED: Final = "waybill.notify.delivery.delivered"
#: Longer than an operation is kept and may be replayed.
KEEP_DELIVERIES: Final = timedelta(days=90)
#: Longer than an operation may be scheduled ahead and kept thereafter.
KEEP_SECRETS: Final = timedelta(days=400)
_PRUNE_SECONDS: Final = 3_600.0
_MICROSECOND: Final = timedelta(microseconds=1)


class Deliveries:
    """Each effect is delivered once as far as this table knows; the channels say what they add to that."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._pruned_at = float("-inf")

    def begin(self, effect_id: str, delivery: notify_pb2.Delivery) -> notify_pb2.Delivery:
        """Record the effect as under way; the delivery as recorded, with its deliver_time if it is done."""
        row = {
            "effect_id": effect_id,
            "notification": delivery.notification,
            "recipient_id": delivery.recipient_id,
            "create_time_us": now_us(),
            "delivery": delivery.SerializeToString(deterministic=True),
        }
        with self._engine.begin() as connection:
            self._prune(connection)
            connection.execute(insert_ignore(DELIVERIES, row, ["effect_id"]))
            return _stored(connection, effect_id)

    def finish(self, attempt: OwingAttempt, delivery: notify_pb2.Delivery) -> notify_pb2.Delivery:
        """Record the effect as delivered now and owe its event, in one transaction; what is recorded already stays."""
        deliver_time_us = now_us()
        delivered = notify_pb2.Delivery()
        delivered.CopyFrom(delivery)
        delivered.deliver_time.FromMicroseconds(deliver_time_us)
        done = sa.update(DELIVERIES).where(
            DELIVERIES.c.effect_id == attempt.effect_id, DELIVERIES.c.deliver_time_us.is_(None)
        )
        values = {"deliver_time_us": deliver_time_us, "delivery": delivered.SerializeToString(deterministic=True)}
        with self._engine.begin() as connection:
            connection.execute(done.values(values))
            kept = _stored(connection, attempt.effect_id)
            data = notify_pb2.DeliveryDelivered(delivery=kept)
            outbox.owe(connection, attempt, key="delivered", type=DELIVERED, subject=kept.operation, data=data)
        return kept

    def page(
        self, size: int, after: Sequence[Any] = (), *, notification: str = "", recipient_id: str = ""
    ) -> list[tuple[tuple[int, str], notify_pb2.Delivery]]:
        """At most `size`, newest first, each with its position; `after` is the position of the one before, if any."""
        column = DELIVERIES.c
        rows = sa.select(DELIVERIES).order_by(column.create_time_us.desc(), column.effect_id.desc()).limit(size)
        if after:
            rows = rows.where(sa.tuple_(column.create_time_us, column.effect_id) < sa.tuple_(*after))
        if notification:
            rows = rows.where(column.notification == notification)
        if recipient_id:
            rows = rows.where(column.recipient_id == recipient_id)
        with self._engine.connect() as connection:
            found = connection.execute(rows).mappings()
            return [((row["create_time_us"], row["effect_id"]), _delivery(row["delivery"])) for row in found]

    def _prune(self, connection: sa.Connection) -> None:
        """Forget what is past its time; at most once an hour in each process."""
        now = time.monotonic()
        if now - self._pruned_at < _PRUNE_SECONDS:
            return
        self._pruned_at = now
        old, unused = (now_us() - kept // _MICROSECOND for kept in (KEEP_DELIVERIES, KEEP_SECRETS))
        connection.execute(sa.delete(DELIVERIES).where(DELIVERIES.c.create_time_us < old))
        connection.execute(sa.delete(PLANS).where(PLANS.c.create_time_us < old))
        connection.execute(sa.delete(SECRETS).where(SECRETS.c.use_time_us < unused))


def _stored(connection: sa.Connection, effect_id: str) -> notify_pb2.Delivery:
    row = sa.select(DELIVERIES.c.delivery).where(DELIVERIES.c.effect_id == effect_id)
    return _delivery(connection.execute(row).scalar_one())


def _delivery(stored: bytes) -> notify_pb2.Delivery:
    return notify_pb2.Delivery.FromString(stored)
