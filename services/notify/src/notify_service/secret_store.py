"""Secrets of webhooks given in place. A payload is read by whoever may read operations: it holds a reference."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from chassis.database import upsert
from waybill.notify.v1 import notify_pb2

from notify_service.recipients import SEALED_PREFIX, webhooks
from notify_service.schema import SECRETS, now_us


class Secrets:
    """A secret's reference is derived from it: the same request sent again has the same payload."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def sealed(self, request: notify_pb2.SendNotificationRequest) -> notify_pb2.SendNotificationRequest:
        """The request with references in place of its secrets, which are kept."""
        copied = notify_pb2.SendNotificationRequest()
        copied.CopyFrom(request)
        known: dict[str, str] = {}
        for webhook in (webhook for recipient in copied.recipients for webhook in webhooks(recipient)):
            reference = _reference(webhook.secret)
            known[reference], webhook.secret = webhook.secret, reference
        if known:
            self._keep(known)
        return copied

    def open(self, reference: str) -> str:
        """The secret; "" for a reference that is unknown."""
        row = sa.select(SECRETS.c.secret).where(SECRETS.c.reference == reference)
        with self._engine.connect() as connection:
            return connection.scalar(row) or ""

    def _keep(self, known: dict[str, str]) -> None:
        now = now_us()
        rows = [{"reference": name, "secret": secret, "use_time_us": now} for name, secret in sorted(known.items())]
        with self._engine.begin() as connection:
            connection.execute(upsert(SECRETS, rows, keys=["reference"], update=["use_time_us"]))


def _reference(secret: str) -> str:
    # A secret has at least 24 random bytes: nobody finds it by trying.
    return SEALED_PREFIX + hashlib.sha256(secret.encode()).hexdigest()
