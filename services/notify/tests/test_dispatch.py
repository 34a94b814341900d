"""One delivery from its payload to its record, over real servers: the same effect, however often it is attempted."""

import email
import email.policy
import json
import mailbox

import grpc
import pytest
from chassis.errors import Cancelled, PermanentError, TransientError
from chassis.testing import attempt
from notify_service.clients import Reports
from notify_service.dispatch import Dispatch
from notify_service.mail import mailer
from notify_service.mail_url import parse_url
from notify_service.posting import Poster
from standardwebhooks import Webhook
from waybill.notify.v1 import internal_pb2, notify_pb2

NAME = "operations/notify/0190b0a0-1234-7000-8000-000000000000"


@pytest.fixture
def a_dispatch(settings, notify_store, reports):
    """A dispatch with these settings; webhooks may reach loopback unless said otherwise."""
    with grpc.insecure_channel(reports.address) as channel:

        def make(mail_url="", **given):
            configured = settings(**{"webhook_allow_private": ("127.0.0.1",), **given})
            target = parse_url(mail_url) if mail_url else configured.mail_target
            return Dispatch(
                configured,
                notify_store,
                mailer=mailer(target, 5.0),
                poster=Poster(configured.allowance, 5.0),
                reports=lambda: Reports(channel),
            )

        yield make


@pytest.fixture
def maildir(tmp_path):
    """The mails in the Maildir of the default settings."""

    def mails():
        folder = tmp_path / "state" / "notify" / "Maildir"
        read = mailbox.Maildir(folder, create=False)
        return [email.message_from_bytes(read.get_bytes(key), policy=email.policy.default) for key in read.keys()]  # noqa: SIM118 - a mailbox iterates over its mails

    return mails


def a_message(channel, **given):
    fields = {
        "notification": NAME,
        "recipient_id": "ada",
        "channel": channel,
        "subject": "Hello Ada",
        "text": "Dear Ada",
        "html": "<p>Dear Ada</p>",
        "template_id": "welcome",
        "template_version": 2,
    }
    return internal_pb2.Deliver(**{**fields, **given})


def test_a_mail_lies_in_the_maildir_and_is_recorded(a_dispatch, an_email, maildir, notify_store, owed):
    """Everything that ListDeliveries and the event say."""
    running = attempt(service="notify")

    delivery = a_dispatch().email(running, a_message(an_email()))

    (mail,) = maildir()
    assert (mail["To"], mail["From"], mail["Subject"]) == (
        *("ada@example.com", "Waybill <waybill@localhost>", "Hello Ada"),
    )
    assert mail["Message-ID"] == delivery.message_id == f"<{running.effect_id}@localhost>"
    assert delivery.receipt == f"new/{running.effect_id}"
    assert (delivery.channel, delivery.destination) == ("email", "ada@example.com")
    assert (delivery.operation, delivery.notification, delivery.recipient_id) == (running.operation, NAME, "ada")
    assert (delivery.template_id, delivery.template_version) == ("welcome", 2)
    assert [kept for _, kept in notify_store.deliveries.page(9)] == [delivery]
    assert owed() == [("waybill.notify.delivery.delivered", running.operation)]


def test_a_mail_attempted_twice_is_one_mail_one_record_and_one_event(a_dispatch, an_email, maildir, owed):
    """Killed between its commit and its settle, and replayed unedited after that."""
    first = attempt(service="notify")
    second = attempt(service="notify", operation_id=first.operation_id, number=2)
    replay = attempt(service="notify", effect_id=first.effect_id)

    deliveries = [a_dispatch().email(running, a_message(an_email())) for running in (first, second, replay)]

    assert deliveries[0] == deliveries[1] == deliveries[2]
    assert len(maildir()) == 1
    assert len(owed()) == 1


def test_a_mail_whose_record_was_lost_is_still_one_file(a_dispatch, an_email, maildir, owed):
    """Killed between the file and the commit: the next attempt finds the file by its name."""
    first = attempt(service="notify")
    dispatch = a_dispatch()

    class Killed(Exception):
        """Stands for kill -9."""

    def die(*_):
        raise Killed

    finish, dispatch._store.deliveries.finish = dispatch._store.deliveries.finish, die
    with pytest.raises(Killed):
        dispatch.email(first, a_message(an_email()))
    dispatch._store.deliveries.finish = finish

    delivery = dispatch.email(
        attempt(service="notify", operation_id=first.operation_id, number=2), a_message(an_email())
    )

    assert len(maildir()) == 1
    assert delivery.receipt == f"new/{first.effect_id}"
    assert len(owed()) == 1


def test_a_mail_carries_contents_and_reports(a_dispatch, an_email, maildir, reports):
    """Names and types that the request gives win over the report's."""
    reports.add("r1", b"%PDF one")
    reports.add("r2", b"%PDF two")
    attachments = [
        notify_pb2.Attachment(filename="a.txt", media_type="text/plain", content=b"hello"),
        notify_pb2.Attachment(report_id="r1"),
        notify_pb2.Attachment(report_id="r2", filename="incident.bin", media_type="application/octet-stream"),
    ]

    a_dispatch().email(attempt(service="notify"), a_message(an_email(), attachments=attachments))

    (mail,) = maildir()
    attached = [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in mail.iter_attachments()
    ]
    assert attached == [
        ("a.txt", "text/plain", b"hello"),
        ("r1.pdf", "application/pdf", b"%PDF one"),
        ("incident.bin", "application/octet-stream", b"%PDF two"),
    ]


def test_attachments_are_bounded_together(a_dispatch, an_email, reports, maildir):
    reports.add("r1", b"x" * 600)
    attachments = [notify_pb2.Attachment(report_id="r1"), notify_pb2.Attachment(report_id="r1")]

    with pytest.raises(PermanentError) as caught:
        a_dispatch(max_attachment_bytes=1_024).email(
            attempt(service="notify"), a_message(an_email(), attachments=attachments)
        )

    assert caught.value.reason == "ATTACHMENT_TOO_LARGE"


def test_a_mail_by_smtp_has_the_same_message_id_in_every_attempt(a_dispatch, an_email, mail_server):
    """At least once: where the server took a mail and the answer was lost, its reader sees which ones are the same."""
    server = mail_server()
    server.replies["DATA"] = "451 try again"
    running = attempt(service="notify")
    dispatch = a_dispatch(f"smtp://127.0.0.1:{server.port}")

    with pytest.raises(TransientError):
        dispatch.email(running, a_message(an_email()))
    del server.replies["DATA"]
    delivery = dispatch.email(running, a_message(an_email()))

    ids = {email.message_from_bytes(content)["Message-ID"] for _, _, content in server.mails}
    assert (len(server.mails), ids) == (2, {delivery.message_id})
    assert delivery.receipt == "250 OK queued as 2"
    assert server.mails[0][0] == "waybill@localhost"


def test_a_mail_that_a_server_refuses_is_recorded_and_not_delivered(
    a_dispatch, an_email, mail_server, notify_store, owed
):
    server = mail_server()
    server.replies["RCPT"] = "550 no such user"

    with pytest.raises(PermanentError):
        a_dispatch(f"smtp://127.0.0.1:{server.port}").email(attempt(service="notify"), a_message(an_email()))

    ((_, recorded),) = notify_store.deliveries.page(9)
    assert not recorded.HasField("deliver_time")
    assert owed() == []


def test_a_payload_that_makes_no_mail_is_permanent(a_dispatch, an_email):
    """An operator may have edited it."""
    with pytest.raises(PermanentError) as caught:
        a_dispatch().email(attempt(service="notify"), a_message(an_email("a@b\r\nBcc: c@d")))

    assert caught.value.reason == "MAIL_INVALID"


def test_a_webhook_is_signed_with_the_secret_of_the_recipient(
    a_dispatch, receiver, notify_store, a_recipient, a_webhook, secret, owed
):
    """The payload names recipient and URL; the secret comes from the database."""
    notify_store.recipients.create(a_recipient("ada", a_webhook(receiver.url())))
    running = attempt(service="notify")

    delivery = a_dispatch().webhook(running, a_message(a_webhook(receiver.url(), "")))

    ((_, headers, body),) = receiver.requests
    assert Webhook(secret).verify(body, headers)["data"]["subject"] == "Hello Ada"
    assert headers["webhook-id"] == delivery.message_id == running.effect_id
    assert (delivery.channel, delivery.destination, delivery.receipt) == (
        "webhook",
        receiver.url(),
        "HTTP 204 No Content",
    )
    assert len(owed()) == 1


def test_a_webhook_given_in_place_is_signed_with_the_secret_behind_its_reference(
    a_dispatch, receiver, notify_store, a_recipient, a_webhook, secret
):
    given = notify_pb2.SendNotificationRequest(recipients=[a_recipient("", a_webhook(receiver.url()))])
    channel = notify_store.secrets.sealed(given).recipients[0].channels[0]

    a_dispatch().webhook(attempt(service="notify"), a_message(channel, recipient_id=""))

    ((_, headers, body),) = receiver.requests
    assert Webhook(secret).verify(body, headers) == json.loads(body)


def test_a_webhook_attempted_twice_is_posted_once_where_the_first_was_recorded(
    a_dispatch, receiver, notify_store, a_recipient, a_webhook, owed
):
    """And where it was not, the second request has the same id and body."""
    notify_store.recipients.create(a_recipient("ada", a_webhook(receiver.url())))
    receiver.answers = [(500, {}), (200, {})]
    running, dispatch = attempt(service="notify"), a_dispatch()

    with pytest.raises(TransientError):
        dispatch.webhook(running, a_message(a_webhook(receiver.url(), "")))
    second = dispatch.webhook(running, a_message(a_webhook(receiver.url(), "")))
    third = dispatch.webhook(running, a_message(a_webhook(receiver.url(), "")))

    assert second == third
    assert len(receiver.requests) == 2
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {running.effect_id}
    assert len({body for _, _, body in receiver.requests}) == 1
    assert len(owed()) == 1


def test_a_webhook_to_a_private_address_is_refused(a_dispatch, receiver, notify_store, a_recipient, a_webhook):
    """Unless the operator allows it."""
    notify_store.recipients.create(a_recipient("ada", a_webhook(receiver.url())))

    with pytest.raises(PermanentError) as caught:
        a_dispatch(webhook_allow_private=()).webhook(
            attempt(service="notify"), a_message(a_webhook(receiver.url(), ""))
        )

    assert caught.value.reason == "WEBHOOK_ADDRESS_FORBIDDEN"
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("channel_url", "recipient_id"), [("http://127.0.0.1:1/other", "ada"), ("http://127.0.0.1:1/hook", "bob")]
)
def test_a_webhook_that_the_recipient_has_no_more_is_not_posted(
    a_dispatch, notify_store, a_recipient, a_webhook, channel_url, recipient_id
):
    """It could not be signed."""
    notify_store.recipients.create(a_recipient("ada", a_webhook("http://127.0.0.1:1/hook")))

    with pytest.raises(PermanentError) as caught:
        a_dispatch().webhook(
            attempt(service="notify"), a_message(a_webhook(channel_url, ""), recipient_id=recipient_id)
        )

    assert caught.value.reason == "WEBHOOK_SECRET_GONE"


def test_an_edited_url_that_is_none_is_permanent(a_dispatch, notify_store, a_recipient, a_webhook):
    """A replay's payload passes no gateway."""
    notify_store.recipients.create(a_recipient("ada", a_webhook("ftp://127.0.0.1/")))

    with pytest.raises(PermanentError) as caught:
        a_dispatch().webhook(attempt(service="notify"), a_message(a_webhook("ftp://127.0.0.1/", "")))

    assert caught.value.reason == "WEBHOOK_URL_INVALID"


def test_a_cancelled_delivery_sends_nothing(a_dispatch, an_email, tmp_path):
    with pytest.raises(Cancelled):
        a_dispatch().email(attempt(service="notify", cancelled=True), a_message(an_email()))

    assert not (tmp_path / "state" / "notify" / "Maildir").exists()
