"""What clients see of payloads."""

from chassis.redaction import REDACTED, is_sensitive, redacted
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
