"""Where mail is handed over, by URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

Security = Literal["none", "tls", "starttls"]

_SCHEMES: Final[dict[str, tuple[Security, int]]] = {
    "smtp": ("none", 25),
    "smtps": ("tls", 465),
    "smtp+starttls": ("starttls", 587),
}
_EXPECTED: Final = "expected smtp://, smtps:// or smtp+starttls:// and [user:password@]host[:port]"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over, and as whom."""

    host: str
    port: int
    security: Security
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """From `smtp://user:password@host:port`. Raises ValueError, which tells no part of the URL."""
        try:
            parts = urlsplit(url)
            security, default_port = _SCHEMES[parts.scheme]
            host, port = parts.hostname or "", parts.port or default_port
        except (KeyError, ValueError):
            raise ValueError(_EXPECTED) from None
        if not host or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(_EXPECTED)
        if bool(parts.username) != bool(parts.password):
            raise ValueError("expected a user and a password, or neither")
        return cls(host, port, security, unquote(parts.username or ""), unquote(parts.password or ""))


def parse_url(url: str) -> Path | SmtpServer:
    """`maildir:///path` or an SMTP server's URL. Raises ValueError, which tells no part of the URL."""
    if not url.startswith("maildir:"):
        return SmtpServer.parse(url)
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/"):
        raise ValueError("expected three slashes and a folder: maildir:///path/to/Maildir")
    return Path(unquote(parts.path))
