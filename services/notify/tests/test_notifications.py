"""What is taken as a notification, and the deliveries it becomes."""

import pytest
from chassis.errors import Violations
from notify_service import notifications
from notify_service.templates import NotificationTemplate
from waybill.notify.v1 import notify_pb2

NAME = "operations/notify/0190b0a0-0000-7000-8000-000000000000"


def found(request, variables=None):
    violations = Violations()
    notifications.check(request, variables or {}, violations)
    return {violation.field for violation in violations.found}


def a_request(**given):
    return notify_pb2.SendNotificationRequest(**{"template_id": "welcome", "recipient_ids": ["ada"], **given})


def an_attachment(**given):
    return notify_pb2.Attachment(**{"filename": "a.txt", "media_type": "text/plain", "content": b"x", **given})


def deliveries(request, stored, template, **variables):
    planned = notifications.deliveries(NAME, request, stored, NotificationTemplate(template), variables)
    return {delivery.key: delivery.payload for delivery in planned}


def test_a_good_notification_is_taken(a_recipient):
    request = a_request(recipients=[a_recipient(""), a_recipient("bob")], attachments=[an_attachment()])

    assert found(request, {"name": "Ada"}) == set()


def test_everything_that_is_wrong_with_a_notification_is_told_at_once(a_recipient, an_email):
    request = a_request(
        template_id="",
        recipient_ids=["ada", "B", "ada"],
        recipients=[a_recipient("ada"), a_recipient("", an_email("x"))],
        attachments=[an_attachment(filename="../x"), an_attachment(media_type="x")],
    )

    assert found(request, {"recipient": "x"}) == {
        "template_id",
        "variables.recipient",
        "recipient_ids[1]",
        "recipient_ids[2]",
        "recipients[0].recipient_id",
        "recipients[1].channels[0].email.address",
        "attachments[0].filename",
        "attachments[1].media_type",
    }


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_notification_has_one_to_a_thousand_recipients(count):
    assert found(a_request(recipient_ids=[f"r{number}" for number in range(count)])) == {"recipient_ids"}


def test_attachments_are_five_at_most_and_bounded_together():
    """Each of them, and the sum of their contents."""
    half = b"x" * (256 * 1_024)

    assert found(a_request(attachments=[an_attachment()] * 6)) == {"attachments"}
    assert found(a_request(attachments=[an_attachment(content=half)] * 2)) == set()
    assert found(a_request(attachments=[an_attachment(content=half)] * 2 + [an_attachment()])) == {"attachments"}


@pytest.mark.parametrize("filename", ["", "..", ".hidden", "a/b", "a\\b", "a\nb", "a\x00b", "x" * 256])
def test_a_file_name_names_no_place(filename):
    assert found(a_request(attachments=[an_attachment(filename=filename)])) == {"attachments[0].filename"}


@pytest.mark.parametrize(
    "media_type",
    ["", "text", "text/", "text/plain; charset=x", "text/plain\r\nX: y", "multipart/mixed", "message/rfc822"],
)
def test_a_media_type_has_two_parts_and_contains_no_messages(media_type):
    assert found(a_request(attachments=[an_attachment(media_type=media_type)])) == {"attachments[0].media_type"}


def test_a_report_brings_its_own_name_and_type():
    """An attachment without content and report is none."""
    assert found(a_request(attachments=[notify_pb2.Attachment(report_id="r1")])) == set()
    assert found(a_request(attachments=[notify_pb2.Attachment(report_id="")])) == {"attachments[0]"}
    assert found(a_request(attachments=[notify_pb2.Attachment()])) == {
        *("attachments[0]", "attachments[0].filename", "attachments[0].media_type")
    }


def test_each_channel_of_each_recipient_is_one_delivery(a_recipient, an_email, a_webhook, a_template):
    """Their keys are those of recipient and channel: the same in every attempt."""
    stored = [a_recipient("ada", an_email(), a_webhook()), a_recipient("bob", an_email("bob@example.com"))]
    request = a_request(recipient_ids=["ada", "bob"], recipients=[a_recipient(""), a_recipient("eve")])

    planned = deliveries(request, stored, a_template(), name="x")

    assert list(planned) == ["ada/0", "ada/1", "bob/0", "#0/0", "#1/0"]
    assert planned["bob/0"].channel.email.address == "bob@example.com"
    assert planned["#1/0"].recipient_id == "eve"
    assert {payload.notification for payload in planned.values()} == {NAME}


def test_each_recipient_is_a_variable_of_its_own_rendering(a_recipient, a_template):
    template = a_template(version=7, subject="{{ recipient.recipient_id }}", html="<b>{{ recipient.display_name }}</b>")
    stored = [a_recipient("ada"), a_recipient("bob", display_name="<Bob>")]

    planned = deliveries(a_request(), stored, template)

    assert planned["bob/0"].subject == "bob"
    assert planned["bob/0"].text == "Dear <Bob>, welcome."
    assert planned["bob/0"].html == "<b>&lt;Bob&gt;</b>"
    assert (planned["ada/0"].template_id, planned["ada/0"].template_version) == ("welcome", 7)


def test_a_webhook_gets_the_names_of_attachments_and_a_mail_their_content(a_recipient, an_email, a_webhook, a_template):
    request = a_request(attachments=[an_attachment(), notify_pb2.Attachment(report_id="r1")])

    planned = deliveries(request, [a_recipient("ada", an_email(), a_webhook())], a_template(), name="x")

    assert list(planned["ada/0"].attachments) == list(request.attachments)
    assert not planned["ada/1"].attachments[0].content
    assert planned["ada/1"].attachments[0].filename == "a.txt"
    assert planned["ada/1"].attachments[1].report_id == "r1"
