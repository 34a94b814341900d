"""What clients see of payloads."""

import pytest
from chassis.errors import InvalidArgument
from chassis.redaction import REDACTED, is_sensitive, redacted, unredacted
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue
from waybill.notify.v1 import internal_pb2, notify_pb2


def _packed(message):
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def test_a_marked_field_is_blanked_wherever_it_lies():
    """`debug_redact` holds in nested and repeated messages; everything else stays."""
    request = notify_pb2.SendNotificationRequest(template_id="alert")
    for address in ("https://one.example", "https://two.example"):
        request.recipients.add().channels.add().webhook.CopyFrom(
            notify_pb2.WebhookChannel(url=address, secret="whsec_c2VjcmV0")
        )

    seen = notify_pb2.SendNotificationRequest()
    redacted(_packed(request)).Unpack(seen)

    assert [recipient.channels[0].webhook.secret for recipient in seen.recipients] == [REDACTED, REDACTED]
    assert [recipient.channels[0].webhook.url for recipient in seen.recipients] == [
        "https://one.example",
        "https://two.example",
    ]
    assert seen.template_id == "alert"
    assert request.recipients[0].channels[0].webhook.secret == "whsec_c2VjcmV0"


def test_an_absent_marked_field_stays_absent():
    """Redaction invents no values."""
    delivery = internal_pb2.Deliver(
        channel=notify_pb2.Channel(webhook=notify_pb2.WebhookChannel(url="https://a.example"))
    )

    seen = internal_pb2.Deliver()
    redacted(_packed(delivery)).Unpack(seen)

    assert seen == delivery


def test_a_payload_without_marked_fields_is_not_even_read():
    """It is the same object: acceptance does not pay for redaction."""
    payload = _packed(StringValue(value="open"))

    assert redacted(payload) is payload
    assert not is_sensitive(StringValue.DESCRIPTOR)


def test_an_unknown_type_is_returned_as_it_is():
    """A gateway may hold operations of a contract that it does not know."""
    payload = AnyMessage(type_url="type.googleapis.com/somebody.else.v1.Thing", value=b"x")

    assert redacted(payload) is payload


def _notification(*secrets):
    """A recipient for each secret."""
    request = notify_pb2.SendNotificationRequest(template_id="alert")
    for number, secret in enumerate(secrets):
        webhook = notify_pb2.WebhookChannel(url=f"https://{number}.example", secret=secret)
        request.recipients.add().channels.add().webhook.CopyFrom(webhook)
    return request


def _edited(original, change):
    """What a client sends back that has seen the payload and changed it."""
    seen = notify_pb2.SendNotificationRequest()
    redacted(_packed(original)).Unpack(seen)
    change(seen)
    return _packed(seen)


def test_an_edited_payload_has_its_blanked_texts_again():
    """What the client changed stays changed, a value that it gave too."""
    original = _notification("one", "two")

    def change(seen):
        seen.template_id = "other"
        seen.recipients[1].channels[0].webhook.secret = "new"

    answer = notify_pb2.SendNotificationRequest()
    unredacted(_edited(original, change), _packed(original), "edited").Unpack(answer)

    assert [recipient.channels[0].webhook.secret for recipient in answer.recipients] == ["one", "new"]
    assert answer.template_id == "other"


def test_blanked_texts_of_a_list_that_was_changed_are_asked_for():
    """By its place alone a secret could be given to another's webhook."""
    original = _notification("one", "two")

    with pytest.raises(InvalidArgument) as caught:
        unredacted(_edited(original, lambda seen: seen.recipients.pop(0)), _packed(original), "edited")

    assert [each.field for each in caught.value.violations] == ["edited.recipients[0].channels[0].webhook.secret"]


def test_an_edited_payload_without_marked_fields_stays_as_it_is():
    edited, original = _packed(StringValue(value="b")), _packed(StringValue(value="a"))

    assert unredacted(edited, original, "edited") is edited
