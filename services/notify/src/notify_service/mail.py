"""Mail is handed over to a Maildir of this machine or to an SMTP server."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from notify_service.mail_url import SmtpServer
from notify_service.maildir import Maildir
from notify_service.smtp import Smtp


class Mailer(Protocol):
    """Hands over one mail."""

    def deliver(self, effect_id: str, sender: str, recipient: str, content: bytes) -> str:
        """Returns the receipt. Raises PermanentError or TransientError."""
        ...


def mailer(target: Path | SmtpServer, timeout_seconds: float) -> Mailer:
    """What delivers there."""
    return Maildir(target) if isinstance(target, Path) else Smtp(target, timeout_seconds)
