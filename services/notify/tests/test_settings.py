"""What the environment may say."""

import pytest
from chassis.settings import SettingsError, load
from notify_service.mail_url import SmtpServer
from notify_service.settings import NotifySettings


def problems(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(NotifySettings)
    return caught.value.problems


def test_nothing_needs_to_be_set(tmp_path, settings):
    """Mail lies in the state directory, and webhooks reach public addresses alone."""
    defaults = settings()

    assert defaults.listen == "127.0.0.1:50052"
    assert defaults.mail_target == tmp_path / "state" / "notify" / "Maildir"
    assert defaults.webhook_timeout_seconds == 15
    assert not defaults.allowance.everything
    assert defaults.stored_locally() == ("NOTIFY_DATABASE_URL", "NOTIFY_MAIL_URL")


def test_all_bad_variables_are_told_at_once_and_no_password_is(monkeypatch):
    found = problems(
        monkeypatch,
        NOTIFY_MAIL_URL="smtp://user:pa55word@host:port",
        NOTIFY_MAIL_FROM="nobody",
        NOTIFY_MAIL_TIMEOUT_SECONDS="0",
        NOTIFY_WEBHOOK_ALLOW_PRIVATE="10.0.0.0/99",
        NOTIFY_WEBHOOK_TIMEOUT_SECONDS="x",
        NOTIFY_MAX_ATTACHMENT_BYTES="-1",
        NOTIFY_LISTEN="nowhere",
    )

    assert len(found) == 7
    assert "pa55word" not in "".join(found.values())
    assert "smtp+starttls://" in found["NOTIFY_MAIL_URL"]


def test_mail_by_smtp_is_not_stored_here(settings):
    given = settings(mail_url="smtp+starttls://user:pa55word@mail.example.com")

    assert given.mail_target == SmtpServer("mail.example.com", 587, "starttls", "user", "pa55word")
    assert given.stored_locally() == ("NOTIFY_DATABASE_URL",)
    assert "pa55word" not in repr(given)


def test_a_maildir_of_this_machine_and_a_redis_of_another_contradict_each_other(monkeypatch):
    """Unless the folder is declared shared."""
    far = {"WAYBILL_REDIS_URL": "redis://redis.example.com:6379/0", "NOTIFY_DATABASE_URL": "postgresql://db/notify"}

    found = problems(monkeypatch, **far)

    assert "NOTIFY_MAIL_URL" in found["WAYBILL_REDIS_URL"]
    monkeypatch.setenv("WAYBILL_SHARED_STATE_DIR", "1")
    assert load(NotifySettings).waybill.shared_state_dir
