"""What a notification is made of, pinned by its first attempt."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from waybill.notify.v1 import notify_pb2

from notify_service.recipient_store import Recipients
from notify_service.schema import PLANS, insert_new, now_us
from notify_service.template_store import Templates


class Plan(NamedTuple):
    """A version of the template, and the recipients as they were."""

    template: notify_pb2.Template
    recipients: list[notify_pb2.Recipient]


class Plans:
    """The deliveries of a second attempt are those of the first: none is rendered or addressed anew."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._templates = Templates(engine)
        self._recipients = Recipients(engine)

    def pinned(self, operation_id: str, request: notify_pb2.SendNotificationRequest) -> Plan:
        """The plan of an operation. Raises NotFound while there is none and something that it needs is missing."""
        return self._find(operation_id, request.template_id) or self._pin(operation_id, request)

    def _pin(self, operation_id: str, request: notify_pb2.SendNotificationRequest) -> Plan:
        template = self._templates.get(request.template_id)
        recipients = self._recipients.all(request.recipient_ids)
        row = {
            "operation_id": operation_id,
            "template_version": template.version,
            "recipients": notify_pb2.ListRecipientsResponse(recipients=recipients).SerializeToString(),
            "create_time_us": now_us(),
        }
        with self._engine.begin() as connection:
            new = insert_new(connection, PLANS, row, "operation_id")
        return (None if new else self._find(operation_id, request.template_id)) or Plan(template, recipients)

    def _find(self, operation_id: str, template_id: str) -> Plan | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(PLANS).where(PLANS.c.operation_id == operation_id)).mappings()
            stored = row.one_or_none()
        if stored is None:
            return None
        recipients = notify_pb2.ListRecipientsResponse.FromString(stored["recipients"]).recipients
        return Plan(self._templates.version(template_id, stored["template_version"]), list(recipients))
