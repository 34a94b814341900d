"""Delivery by SMTP: at least once, with a stable Message-ID."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from typing import Final

from chassis.errors import PermanentError, TransientError

from notify_service.mail_url import SmtpServer

_OK: Final = range(200, 400)
_PERMANENT: Final = range(500, 600)


class Smtp:
    """A connection for each mail. A refusal with a 5xx reply is permanent; everything else is transient.

    So is a server that cannot be logged in to: that is the service's setting at fault, not the mail.
    """

    def __init__(self, server: SmtpServer, timeout_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self.server = server
        self._timeout_seconds = timeout_seconds
        self._tls = tls or ssl.create_default_context()

    def deliver(self, effect_id: str, sender: str, recipient: str, content: bytes) -> str:
        """Returns the server's last reply. Raises PermanentError and TransientError as the server answers."""
        del effect_id
        with self._translated(), self._session() as session:
            _expect(session.mail(sender), "MAIL FROM")
            _expect(session.rcpt(recipient), "RCPT TO")
            reply = session.data(content)
            _expect(reply, "DATA")
            return _line(*reply)

    @contextlib.contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        session = self._connected()
        try:
            yield session
        finally:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                session.quit()
            session.close()

    def _connected(self) -> smtplib.SMTP:
        server = self.server
        if server.security == "tls":
            session: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, timeout=self._timeout_seconds, context=self._tls
            )
        else:
            session = smtplib.SMTP(server.host, server.port, timeout=self._timeout_seconds)
        try:
            session.ehlo_or_helo_if_needed()
            if server.security == "starttls":
                session.starttls(context=self._tls)
                session.ehlo()
            if server.user:
                session.login(server.user, server.password)
        except BaseException:
            session.close()
            raise
        return session

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        where = f"{self.server.host}:{self.server.port}"
        try:
            yield
        except smtplib.SMTPAuthenticationError as error:
            # Its reply may repeat what was sent.
            raise TransientError(f"{where} refused the login: {error.smtp_code}", reason="SMTP_LOGIN_REFUSED") from None
        except smtplib.SMTPDataError as error:
            _refuse(error.smtp_code, error.smtp_error, "DATA", error)
        except (smtplib.SMTPException, OSError) as error:
            raise TransientError(f"{where}: {error}", reason="SMTP_UNAVAILABLE") from error


def _expect(reply: tuple[int, bytes], command: str) -> None:
    code, text = reply
    if code not in _OK:
        _refuse(code, text, command, None)


def _refuse(code: int, text: bytes | str, command: str, cause: Exception | None) -> None:
    message = f"the mail server answered {command} with {_line(code, text)}"
    if code in _PERMANENT:
        raise PermanentError(message, reason="SMTP_REFUSED") from cause
    raise TransientError(message, reason="SMTP_DEFERRED") from cause


def _line(code: int, text: bytes | str) -> str:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(shown.split())}".strip()[:500]
