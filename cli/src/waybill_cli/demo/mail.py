"""A mail in a Maildir, as far as the demo looks into it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mail:
    """Subject, and file name to SHA-256 of what is attached."""

    subject: str
    attachments: dict[str, str]


def read(path: Path) -> Mail:
    """Parse the message in that file."""
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    attachments = {
        part.get_filename(""): hashlib.sha256(part.get_content()).hexdigest()
        for part in message.iter_attachments()
        if not part.is_multipart() and isinstance(part.get_content(), bytes)
    }
    return Mail(str(message["Subject"]), attachments)
