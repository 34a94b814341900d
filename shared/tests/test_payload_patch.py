"""A patch of a payload: what is set replaces, everything else stays."""

import pytest
from chassis.errors import InvalidArgument
from chassis.payload_patch import patched
from chassis.redaction import REDACTED
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from waybill.notify.v1 import notify_pb2
from waybill.reports.v1 import reports_pb2


def packed(message):
    answer = AnyMessage()
    answer.Pack(message)
    return answer


def patch(original, change):
    answer = type(original)()
    assert patched(packed(original), packed(change), "payload_patch").Unpack(answer)
    return answer


def test_fields_that_are_set_replace_the_originals():
    """Scalars one by one; lists as a whole; what the patch does not set stays."""
    one, two = (reports_pb2.Section(text=reports_pb2.TextSection(title=title)) for title in ("one", "two"))
    original = reports_pb2.RenderReportRequest(title="old", template_id="standard", sections=[one, two])

    assert patch(original, reports_pb2.RenderReportRequest(title="new")) == reports_pb2.RenderReportRequest(
        title="new", template_id="standard", sections=[one, two]
    )
    assert list(patch(original, reports_pb2.RenderReportRequest(sections=[two])).sections) == [two]
    assert patch(original, reports_pb2.RenderReportRequest()) == original


def test_maps_are_replaced_as_a_whole():
    """No key of the original is left."""
    original, change = Struct(), Struct()
    original.update({"a": 1, "b": {"c": 2}})
    change.update({"b": 3})

    assert dict(patch(original, change)) == {"b": 3}


def test_messages_within_are_replaced_field_by_field():
    """Of a oneof the patch's choice holds."""
    original = reports_pb2.Section(text=reports_pb2.TextSection(title="t", text="old"))

    change = reports_pb2.Section(text=reports_pb2.TextSection(text="new"))
    assert patch(original, change) == reports_pb2.Section(text=reports_pb2.TextSection(title="t", text="new"))
    table = reports_pb2.Section(table=reports_pb2.TableSection(title="x"))
    assert patch(original, table) == table


def test_what_is_blanked_is_as_the_original_has_it():
    """A secret is not lost when the patch was made of what clients see."""
    channel = notify_pb2.Channel(webhook=notify_pb2.WebhookChannel(url="https://a.example", secret="whsec_c2VjcmV0"))
    change = notify_pb2.Channel(webhook=notify_pb2.WebhookChannel(url="https://b.example", secret=REDACTED))

    mended = patch(channel, change).webhook

    assert (mended.url, mended.secret) == ("https://b.example", "whsec_c2VjcmV0")
    assert patch(channel, notify_pb2.Channel()).webhook.secret == "whsec_c2VjcmV0"


@pytest.mark.parametrize(
    "change",
    [
        packed(Struct()),
        AnyMessage(type_url=packed(reports_pb2.RenderReportRequest()).type_url, value=b"\xff"),
        AnyMessage(type_url="type.googleapis.com/no.such.Type"),
    ],
)
def test_what_does_not_fit_is_bad_input(change):
    """Another type, or bytes that are no message."""
    with pytest.raises(InvalidArgument) as refused:
        patched(packed(reports_pb2.RenderReportRequest(title="t")), change, "payload_patch")
    assert [violation.field for violation in refused.value.violations] == ["payload_patch"]
