"""Sends one delivery and records it: what `notify.deliver_email` and `notify.deliver_webhook` do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from chassis.channels import channel_to
from chassis.errors import PermanentError
from chassis.settings import load
from chassis.worker import Attempt
from waybill.notify.v1 import internal_pb2, notify_pb2

from notify_service import messages, store, webhooks
from notify_service.clients import Reports
from notify_service.mail import Mailer, mailer
from notify_service.messages import File, Mail
from notify_service.posting import Poster
from notify_service.recipients import SEALED_PREFIX, url_problem
from notify_service.settings import NotifySettings
from notify_service.store import Store


class Dispatch:
    """The channels of one process; threads share it."""

    def __init__(
        self, settings: NotifySettings, opened: Store, *, mailer: Mailer, poster: Poster, reports: Callable[[], Reports]
    ) -> None:
        self._settings = settings
        self._store = opened
        self._mailer = mailer
        self._poster = poster
        self._reports = reports

    def email(self, attempt: Attempt, message: internal_pb2.Deliver) -> notify_pb2.Delivery:
        """Maildir: exactly one file. SMTP: at least once, with a stable Message-ID."""
        address = message.channel.email.address
        message_id = messages.message_id(attempt.effect_id, self._settings.mail_from)

        def send() -> str:
            content = self._mail(attempt, message, message_id)
            sender = messages.envelope_of(self._settings.mail_from)
            return self._mailer.deliver(attempt.effect_id, sender, address, content)

        return self._once(attempt, _delivery(attempt, message, "email", address, message_id), send)

    def webhook(self, attempt: Attempt, message: internal_pb2.Deliver) -> notify_pb2.Delivery:
        """At least once, with a stable webhook-id."""
        url = message.channel.webhook.url

        def send() -> str:
            if problem := url_problem(url):
                raise PermanentError(f"the webhook's URL {problem}", reason="WEBHOOK_URL_INVALID")
            body, now = webhooks.payload(message), datetime.now(UTC)
            headers = webhooks.headers(attempt.effect_id, self._secret(message), body, now)
            answer = self._poster.post(url, headers, body)
            return webhooks.receipt(answer.status, answer.headers, now)

        return self._once(attempt, _delivery(attempt, message, "webhook", url, attempt.effect_id), send)

    def _once(self, attempt: Attempt, delivery: notify_pb2.Delivery, send: Callable[[], str]) -> notify_pb2.Delivery:
        known = self._store.deliveries.begin(attempt.effect_id, delivery)
        if known.HasField("deliver_time"):
            return known
        attempt.check()
        delivery.receipt = send()
        return self._store.deliveries.finish(attempt, delivery)

    def _mail(self, attempt: Attempt, message: internal_pb2.Deliver, message_id: str) -> bytes:
        mail = Mail(
            sender=self._settings.mail_from,
            recipient=message.channel.email.address,
            subject=message.subject,
            text=message.text,
            html=message.html,
            files=self._files(attempt, message),
            message_id=message_id,
            date=datetime.now(UTC),
        )
        try:
            return bytes(messages.compose(mail))
        except ValueError as error:
            raise PermanentError(f"the mail cannot be composed: {error}", reason="MAIL_INVALID") from error

    def _files(self, attempt: Attempt, message: internal_pb2.Deliver) -> list[File]:
        files: list[File] = []
        for attachment in message.attachments:
            attempt.check()
            left = self._settings.max_attachment_bytes - sum(len(file.content) for file in files)
            files.append(self._file(attempt, attachment, left))
        return files

    def _file(self, attempt: Attempt, attachment: notify_pb2.Attachment, limit_bytes: int) -> File:
        if not attachment.HasField("report_id"):
            return File(attachment.filename, attachment.media_type, attachment.content)
        report = self._reports().file(attachment.report_id, limit_bytes, attempt.deadline)
        return File(attachment.filename or report.filename, attachment.media_type or report.media_type, report.content)

    def _secret(self, message: internal_pb2.Deliver) -> str:
        webhook = message.channel.webhook
        if webhook.secret.startswith(SEALED_PREFIX):
            secret = self._store.secrets.open(webhook.secret)
        else:
            secret = self._store.recipients.secret(message.recipient_id, webhook.url)
        if not secret:
            raise PermanentError(
                f"recipient {message.recipient_id!r} has this webhook no more, so that it cannot be signed",
                reason="WEBHOOK_SECRET_GONE",
            )
        return secret


@cache
def dispatch() -> Dispatch:
    """This process's channels, with the settings of the environment."""
    settings = load(NotifySettings)
    return Dispatch(
        settings,
        store.opened(),
        mailer=mailer(settings.mail_target, settings.mail_timeout_seconds),
        poster=Poster(settings.allowance, settings.webhook_timeout_seconds),
        reports=lambda: Reports(channel_to("reports")),
    )


def _delivery(
    attempt: Attempt, message: internal_pb2.Deliver, channel: str, destination: str, message_id: str
) -> notify_pb2.Delivery:
    return notify_pb2.Delivery(
        operation=attempt.operation,
        notification=message.notification,
        recipient_id=message.recipient_id,
        channel=channel,
        destination=destination,
        subject=message.subject,
        message_id=message_id,
        template_id=message.template_id,
        template_version=message.template_version,
    )
