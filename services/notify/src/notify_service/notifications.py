"""Notifications: what is taken, and the deliveries that one becomes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from chassis.errors import Violations
from waybill.notify.v1 import internal_pb2, notify_pb2

from notify_service import recipients, subscriptions, templates
from notify_service.identifiers import check_id
from notify_service.templates import NotificationTemplate

MAX_RECIPIENTS: Final = 1_000
MAX_ATTACHMENTS: Final = 5
#: Of all contents given in a request. The payload limit leaves the rest to the rendered text.
MAX_CONTENT_BYTES: Final = 512 * 1_024
MAX_FILENAME: Final = 255
# RFC 6838, section 4.2. A container's parts would need headers of their own.
_NAME: Final = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE: Final = re.compile(rf"(?!multipart/|message/){_NAME}/{_NAME}")


class Delivery(NamedTuple):
    """One rendered notification for one channel; `key` tells the deliveries of a notification apart."""

    key: str
    payload: internal_pb2.Deliver


def check(
    request: notify_pb2.SendNotificationRequest,
    variables: Mapping[str, Any],
    violations: Violations,
    *,
    sealed: bool = False,
) -> None:
    """Add everything that is wrong with a request by itself. `sealed`: references may stand in place of secrets."""
    check_id(request.template_id, "template_id", violations)
    templates.check_variables(variables, violations)
    subscriptions.check_recipient_ids(request.recipient_ids, "recipient_ids", violations)
    count = len(request.recipient_ids) + len(request.recipients)
    violations.require(
        1 <= count <= MAX_RECIPIENTS,
        "recipient_ids",
        f"there are {count} recipients; expected 1 to {MAX_RECIPIENTS} in recipient_ids and recipients together",
    )
    named = set(request.recipient_ids)
    for index, recipient in enumerate(request.recipients):
        path = f"recipients[{index}]"
        recipients.check(recipient, path, violations, id_required=False, sealed=sealed)
        if recipient.recipient_id:
            violations.require(recipient.recipient_id not in named, f"{path}.recipient_id", "names a recipient twice")
            named.add(recipient.recipient_id)
    _check_attachments(request.attachments, violations)


def deliveries(
    notification: str,
    request: notify_pb2.SendNotificationRequest,
    stored: Sequence[notify_pb2.Recipient],
    template: NotificationTemplate,
    variables: Mapping[str, Any],
) -> Iterator[Delivery]:
    """One for each channel of each recipient, rendered once for each recipient. Raises RenderError."""
    placed = ((f"#{index}", recipient) for index, recipient in enumerate(request.recipients))
    known = ((recipient.recipient_id, recipient) for recipient in stored)
    for name, recipient in (*known, *placed):
        about = {"recipient_id": recipient.recipient_id, "display_name": recipient.display_name}
        rendered = template.render({**variables, "recipient": about})
        message = internal_pb2.Deliver(
            notification=notification,
            recipient_id=recipient.recipient_id,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            template_id=template.template_id,
            template_version=template.version,
        )
        for index, channel in enumerate(recipient.channels):
            yield Delivery(f"{name}/{index}", _addressed(message, channel, request.attachments))


def _addressed(
    message: internal_pb2.Deliver, channel: notify_pb2.Channel, attachments: Sequence[notify_pb2.Attachment]
) -> internal_pb2.Deliver:
    """The message for one channel; a webhook's attachments are without their content."""
    addressed = internal_pb2.Deliver(channel=channel, attachments=attachments)
    addressed.MergeFrom(message)
    for attachment in addressed.attachments if channel.HasField("webhook") else ():
        if attachment.HasField("content"):
            attachment.ClearField("content")
    return addressed


def _check_attachments(attachments: Sequence[notify_pb2.Attachment], violations: Violations) -> None:
    count, size = len(attachments), sum(len(attachment.content) for attachment in attachments)
    violations.require(count <= MAX_ATTACHMENTS, "attachments", f"has {count}; expected at most {MAX_ATTACHMENTS}")
    violations.require(
        size <= MAX_CONTENT_BYTES,
        "attachments",
        f"have {size} bytes of content together; at most {MAX_CONTENT_BYTES} are taken",
    )
    for index, attachment in enumerate(attachments):
        _check_attachment(attachment, f"attachments[{index}]", violations)


def _check_attachment(attachment: notify_pb2.Attachment, path: str, violations: Violations) -> None:
    # A report brings its own name and type.
    optional = attachment.HasField("report_id")
    name, media_type = attachment.filename, attachment.media_type
    violations.require(
        is_filename(name) or (optional and not name),
        f"{path}.filename",
        f"expected a name without a path, one line of at most {MAX_FILENAME} characters",
    )
    violations.require(
        _MEDIA_TYPE.fullmatch(media_type) or (optional and not media_type),
        f"{path}.media_type",
        "expected a media type in lower case and without parameters, as application/pdf; not multipart, not message",
    )
    violations.require(attachment.HasField("content") or attachment.report_id, path, "needs content or report_id")


def is_filename(name: str) -> bool:
    """Whether it names a file and no place."""
    return (
        bool(name)
        and len(name) <= MAX_FILENAME
        and name.isprintable()
        and not name.startswith(".")
        and not (set(name) & set("/\\"))
    )
