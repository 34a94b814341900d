"""Mail messages, as MIME. Nothing that a client gives can end a header line and begin another."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from notify_service.mail_addresses import address_of

# Servers that take 8-bit text are many, not all.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_DEFAULT_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class File:
    """An attachment with its content."""

    filename: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one address. `html` empty: plain text alone."""

    sender: str
    recipient: str
    subject: str
    text: str
    html: str
    files: Sequence[File]
    message_id: str
    date: datetime


def message_id(effect_id: str, sender: str) -> str:
    """The Message-ID of an effect: the same for every attempt (RFC 5322, in the sender's domain)."""
    return f"<{effect_id}@{address_of(sender).domain}>"


def envelope_of(sender: str) -> str:
    """The bare address that a mail is sent from."""
    return address_of(sender).addr_spec


def accepted_at(operation: str) -> datetime:
    """When an operation was accepted, as its id, a UUIDv7, says in milliseconds."""
    milliseconds = uuid.UUID(operation.rpartition("/")[2]).int >> 80
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)


def compose(mail: Mail) -> EmailMessage:
    """The message: text, with HTML as its alternative, and the files. Raises ValueError for a bad header."""
    # The library refuses line feeds; a lone carriage return ends a header line for some readers too.
    if not mail.subject.isprintable():
        raise ValueError("a subject is one line of text without control characters")
    message = EmailMessage(_POLICY)
    message["From"] = address_of(mail.sender)
    message["To"] = address_of(mail.recipient)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.date)
    message["Message-ID"] = mail.message_id
    # RFC 3834: no vacation responder answers.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    if mail.html:
        message.add_alternative(mail.html, subtype="html")
    for file in mail.files:
        maintype, _, subtype = (file.media_type or _DEFAULT_TYPE).partition("/")
        message.add_attachment(file.content, maintype=maintype, subtype=subtype, filename=file.filename)
    return message
