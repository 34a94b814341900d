"""Webhooks by Standard Webhooks (https://www.standardwebhooks.com): payload, signature, and what an answer means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from chassis.errors import PermanentError, TransientError
from standardwebhooks import Webhook
from waybill.notify.v1 import internal_pb2, notify_pb2

from notify_service.messages import accepted_at

EVENT_TYPE: Final = "waybill.notify.notification"
#: The longest wait that a receiver may ask for.
MAX_RETRY_AFTER: Final = timedelta(hours=1)

_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_MANY_SECONDS: Final = re.compile(r"[0-9]{10,}")
_SUCCESSES: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_REFUSALS: Final = range(400, 500)
_TRANSIENT_REFUSALS: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


def payload(message: internal_pb2.Deliver) -> bytes:
    """The body: the same bytes for every attempt."""
    body = {
        "type": EVENT_TYPE,
        "timestamp": accepted_at(message.notification).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {
            "notification": message.notification,
            "recipient_id": message.recipient_id,
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "attachments": list(map(_attachment, message.attachments)),
            "template_id": message.template_id,
            "template_version": message.template_version,
        },
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def headers(webhook_id: str, secret: str, body: bytes, now: datetime) -> dict[str, str]:
    """Id, timestamp and signature. The timestamp is the attempt's: receivers refuse old ones."""
    return {
        "content-type": "application/json",
        "user-agent": "Waybill",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, now.astimezone(UTC), body.decode()),
    }


def receipt(status: int, answer: Mapping[str, str], now: datetime) -> str:
    """The status line of a 2xx answer. Raises PermanentError or TransientError for every other."""
    line = f"HTTP {status} {_phrase(status)}".rstrip()
    if status in _SUCCESSES:
        return line
    if status in _REDIRECTS:
        raise PermanentError(
            f"the receiver answered {line}: redirects are not followed, give the URL that answers itself",
            reason="WEBHOOK_REDIRECTED",
        )
    if status in _REFUSALS and status not in _TRANSIENT_REFUSALS:
        reason = "WEBHOOK_GONE" if status == HTTPStatus.GONE else "WEBHOOK_REFUSED"
        raise PermanentError(f"the receiver answered {line}", reason=reason)
    wait = retry_after(answer.get("retry-after", ""), now)
    raise TransientError(f"the receiver answered {line}", retry_after=wait, reason="WEBHOOK_UNAVAILABLE")


def retry_after(value: str, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for (RFC 9110), at most an hour; None for none that can be read."""
    digits = value.strip()
    if _SECONDS.fullmatch(digits):
        return min(timedelta(seconds=int(digits)), MAX_RETRY_AFTER)
    if _MANY_SECONDS.fullmatch(digits):
        return MAX_RETRY_AFTER
    try:
        instant = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    wait = instant.replace(tzinfo=instant.tzinfo or UTC) - now
    return min(max(wait, timedelta(0)), MAX_RETRY_AFTER)


def _attachment(attachment: notify_pb2.Attachment) -> dict[str, Any]:
    shown = {"filename": attachment.filename, "media_type": attachment.media_type, "report_id": attachment.report_id}
    return {name: value for name, value in shown.items() if value}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
