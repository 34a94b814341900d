"""Recipients. Their webhooks' secrets come out of `secret` and `completed`, and out of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from chassis.errors import AlreadyExists, FailedPrecondition
from waybill.notify.v1 import notify_pb2

from notify_service.recipients import webhooks, with_kept_secrets, without_secrets
from notify_service.references import recipients_not_found
from notify_service.schema import RECIPIENTS, SUBSCRIBED_RECIPIENTS, insert_new, now_us

_MAX_PARAMETERS = 500


class Recipients:
    """Answers are without secrets. NotFound's reason is RECIPIENT_NOT_FOUND, and it names every missing one."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, recipient: notify_pb2.Recipient) -> notify_pb2.Recipient:
        """Raises AlreadyExists."""
        recipient_id, now = recipient.recipient_id, now_us()
        row = {
            "recipient_id": recipient_id,
            "create_time_us": now,
            "update_time_us": now,
            "recipient": _serialized(recipient),
        }
        with self._engine.begin() as connection:
            if not insert_new(connection, RECIPIENTS, row, "recipient_id"):
                raise AlreadyExists(
                    f"recipient {recipient_id!r} exists already",
                    reason="RECIPIENT_EXISTS",
                    metadata={"recipient_id": recipient_id},
                )
        return without_secrets(_recipient(row))

    def update(self, recipient: notify_pb2.Recipient) -> notify_pb2.Recipient:
        """Replaces the recipient whole. Raises NotFound."""
        found = RECIPIENTS.c.recipient_id == recipient.recipient_id
        with self._engine.begin() as connection:
            changed = sa.update(RECIPIENTS).where(found)
            connection.execute(changed.values(update_time_us=now_us(), recipient=_serialized(recipient)))
            stored = _find(connection, recipient.recipient_id)
        if stored is None:
            raise recipients_not_found([recipient.recipient_id])
        return without_secrets(stored)

    def completed(self, recipient: notify_pb2.Recipient) -> notify_pb2.Recipient:
        """The recipient, a webhook without a secret having the one stored for its URL, if any."""
        with self._engine.connect() as connection:
            stored = _find(connection, recipient.recipient_id)
        return with_kept_secrets(recipient, stored) if stored else recipient

    def get(self, recipient_id: str) -> notify_pb2.Recipient:
        """Raises NotFound."""
        (recipient,) = self.all((recipient_id,))
        return recipient

    def all(self, recipient_ids: Sequence[str]) -> list[notify_pb2.Recipient]:
        """Those of these ids, in their order. Raises NotFound, which names all that are missing."""
        found = self._found(recipient_ids)
        missing = [recipient_id for recipient_id in recipient_ids if recipient_id not in found]
        if missing:
            raise recipients_not_found(missing)
        return [found[recipient_id] for recipient_id in recipient_ids]

    def missing(self, recipient_ids: Sequence[str]) -> list[str]:
        """Those of the ids that no recipient has."""
        found = self._found(recipient_ids)
        return [recipient_id for recipient_id in recipient_ids if recipient_id not in found]

    def _found(self, recipient_ids: Sequence[str]) -> dict[str, notify_pb2.Recipient]:
        found: dict[str, notify_pb2.Recipient] = {}
        with self._engine.connect() as connection:
            for begin in range(0, len(recipient_ids), _MAX_PARAMETERS):
                wanted = RECIPIENTS.c.recipient_id.in_(recipient_ids[begin : begin + _MAX_PARAMETERS])
                for row in connection.execute(sa.select(RECIPIENTS).where(wanted)).mappings():
                    found[row["recipient_id"]] = without_secrets(_recipient(row))
        return found

    def secret(self, recipient_id: str, url: str) -> str:
        """The secret of the recipient's webhook with that URL; "" when there is none any more."""
        with self._engine.connect() as connection:
            stored = _find(connection, recipient_id)
        known = webhooks(stored) if stored else ()
        return next((webhook.secret for webhook in known if webhook.url == url), "")

    def page(self, size: int, after: Sequence[Any] = ()) -> list[notify_pb2.Recipient]:
        """At most `size`, by id; `after` is the id of the one before, if any."""
        rows = sa.select(RECIPIENTS).order_by(RECIPIENTS.c.recipient_id).limit(size)
        rows = rows.where(RECIPIENTS.c.recipient_id > after[0]) if after else rows
        with self._engine.connect() as connection:
            return [without_secrets(_recipient(row)) for row in connection.execute(rows).mappings()]

    def delete(self, recipient_id: str) -> None:
        """Raises NotFound; FailedPrecondition (RECIPIENT_IN_USE) while a subscription names it."""
        try:
            with self._engine.begin() as connection:
                gone = connection.execute(sa.delete(RECIPIENTS).where(RECIPIENTS.c.recipient_id == recipient_id))
        except sa.exc.IntegrityError:
            raise self._in_use(recipient_id) from None
        if not gone.rowcount:
            raise recipients_not_found([recipient_id])

    def _in_use(self, recipient_id: str) -> FailedPrecondition:
        column = SUBSCRIBED_RECIPIENTS.c
        rows = sa.select(column.subscription_id).where(column.recipient_id == recipient_id).limit(20)
        with self._engine.connect() as connection:
            names = ",".join(sorted(connection.scalars(rows)))
        return FailedPrecondition(
            f"recipient {recipient_id!r} is in use by the subscriptions {names}",
            reason="RECIPIENT_IN_USE",
            metadata={"recipient_id": recipient_id, "subscription_ids": names},
        )


def _find(connection: sa.Connection, recipient_id: str) -> notify_pb2.Recipient | None:
    row = connection.execute(sa.select(RECIPIENTS).where(RECIPIENTS.c.recipient_id == recipient_id)).mappings()
    stored = row.one_or_none()
    return None if stored is None else _recipient(stored)


def _serialized(recipient: notify_pb2.Recipient) -> bytes:
    kept = notify_pb2.Recipient()
    kept.CopyFrom(recipient)
    kept.ClearField("create_time")
    kept.ClearField("update_time")
    return kept.SerializeToString(deterministic=True)


def _recipient(row: Any) -> notify_pb2.Recipient:
    recipient = notify_pb2.Recipient.FromString(row["recipient"])
    recipient.create_time.FromMicroseconds(row["create_time_us"])
    recipient.update_time.FromMicroseconds(row["update_time_us"])
    return recipient
