"""Mail handed over to a real SMTP server."""

import asyncio
import ssl

import pytest
from chassis.errors import PermanentError, TransientError
from notify_service.mail_url import SmtpServer, parse_url
from notify_service.smtp import Smtp

CONTENT = b"Message-ID: <e@x>\r\nSubject: x\r\n\r\n.leading dot\r\nbody\r\n"


def deliver(url, tls=None, timeout_seconds=5.0):
    smtp = Smtp(SmtpServer.parse(url), timeout_seconds, tls)
    return smtp.deliver("effect", "waybill@example.com", "ada@example.com", CONTENT)


def test_a_mail_arrives_as_it_was_sent(mail_server):
    """The receipt is the server's last reply."""
    server = mail_server()

    receipt = deliver(f"smtp://127.0.0.1:{server.port}")

    assert receipt == "250 OK queued as 1"
    assert server.mails == [("waybill@example.com", ["ada@example.com"], CONTENT)]


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        ("550 5.1.1 No such user", PermanentError, "SMTP_REFUSED"),
        ("451 4.3.0 Try again later", TransientError, "SMTP_DEFERRED"),
    ],
)
def test_a_refusal_is_permanent_or_transient_as_the_server_says(mail_server, command, reply, kind, reason):
    """5xx is worth no other attempt, 4xx is; the reply is told."""
    server = mail_server()
    server.replies[command] = reply

    with pytest.raises(kind) as caught:
        deliver(f"smtp://127.0.0.1:{server.port}")

    assert caught.value.reason == reason
    assert reply in str(caught.value)


def test_a_server_that_is_not_there_is_worth_another_attempt(mail_server):
    """The address is told."""
    with pytest.raises(TransientError) as caught:
        deliver("smtp://127.0.0.1:1")

    assert caught.value.reason == "SMTP_UNAVAILABLE"
    assert "127.0.0.1:1" in str(caught.value)


def test_a_server_that_says_nothing_is_given_up_in_time(loop_thread):
    """And worth another attempt."""

    async def listen():
        return await loop_thread.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)

    server = loop_thread.run(listen())
    port = server.sockets[0].getsockname()[1]

    with pytest.raises(TransientError) as caught:
        deliver(f"smtp://127.0.0.1:{port}", timeout_seconds=0.2)

    assert caught.value.reason == "SMTP_UNAVAILABLE"
    loop_thread.loop.call_soon_threadsafe(server.close)


def test_mail_goes_by_tls_from_the_start(mail_server, server_tls, client_tls):
    server = mail_server(tls=server_tls)

    deliver(f"smtps://localhost:{server.port}", client_tls)

    assert len(server.mails) == 1


def test_mail_goes_by_starttls_with_a_login(mail_server, server_tls, client_tls):
    """Credentials are percent-encoded in the URL."""
    server = mail_server(tls_context=server_tls, require_starttls=True, auth_required=True)

    deliver(f"smtp+starttls://way%40bill:right@localhost:{server.port}", client_tls)

    assert server.logins == [("way@bill", "right")]
    assert len(server.mails) == 1


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_certificate_that_is_not_trusted_gets_no_mail(mail_server, server_tls, scheme):
    """The setting or the server is at fault, not the mail: another attempt may find it mended."""
    server = mail_server(tls=server_tls) if scheme == "smtps" else mail_server(tls_context=server_tls)

    with pytest.raises(TransientError):
        deliver(f"{scheme}://localhost:{server.port}", ssl.create_default_context())

    assert server.mails == []


def test_a_server_without_starttls_gets_no_mail_in_clear(mail_server, client_tls):
    server = mail_server()

    with pytest.raises(TransientError):
        deliver(f"smtp+starttls://localhost:{server.port}", client_tls)

    assert server.mails == []


def test_a_refused_login_tells_no_password(mail_server, server_tls, client_tls):
    server = mail_server(tls_context=server_tls, auth_required=True)

    with pytest.raises(TransientError) as caught:
        deliver(f"smtp+starttls://waybill:wr0ng-secret@localhost:{server.port}", client_tls)

    assert caught.value.reason == "SMTP_LOGIN_REFUSED"
    assert "wr0ng-secret" not in str(caught.value)
    assert "wr0ng-secret" not in repr(SmtpServer.parse("smtp://waybill:wr0ng-secret@localhost"))


@pytest.mark.parametrize(
    ("url", "host", "port", "security"),
    [
        ("smtp://mail.example.com", "mail.example.com", 25, "none"),
        ("smtps://mail.example.com", "mail.example.com", 465, "tls"),
        ("smtp+starttls://u:p@mail.example.com", "mail.example.com", 587, "starttls"),
        ("smtp://[::1]:2525", "::1", 2525, "none"),
    ],
)
def test_a_url_says_where_and_how(url, host, port, security):
    server = parse_url(url)

    assert (server.host, server.port, server.security) == (host, port, security)


@pytest.mark.parametrize(
    "url",
    [
        *("", "mail.example.com", "http://mail.example.com", "smtp://", "smtp://host:x", "smtp://host:99999"),
        *("smtp://user@host", "smtp://host/path", "smtp://host?x=y", "maildir://relative/path", "maildir:///"),
    ],
)
def test_another_url_is_refused(url):
    with pytest.raises(ValueError, match="expected"):
        parse_url(url)


def test_a_refused_url_tells_no_password():
    """Not even where the password is what makes it unreadable."""
    with pytest.raises(ValueError, match="expected") as caught:
        parse_url("smtp://user:p:ss/w0rd@host")

    assert "w0rd" not in str(caught.value)


def test_a_maildir_is_a_folder(tmp_path):
    assert parse_url(f"maildir://{tmp_path}/Mail%20dir") == tmp_path / "Mail dir"
