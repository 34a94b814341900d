"""Mail messages: whole, stable, and closed to header injection."""

import email
import email.policy
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notify_service import messages
from notify_service.messages import File, Mail

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
HEADERS = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}


def a_mail(**given):
    fields = {
        "sender": "Waybill <waybill@example.com>",
        "recipient": "ada@example.com",
        "subject": "Hello",
        "text": "Dear Ada",
        "html": "",
        "files": (),
        "message_id": "<effect@example.com>",
        "date": NOON,
    }
    return Mail(**{**fields, **given})


def parsed(mail):
    return email.message_from_bytes(bytes(messages.compose(mail)), policy=email.policy.default)


def test_text_alone_is_a_plain_mail():
    message = parsed(a_mail(text="Grüße\n.\n"))

    assert message.get_content_type() == "text/plain"
    assert message.get_content().splitlines() == ["Grüße", "."]
    assert set(message.keys()) == HEADERS | {"Content-Transfer-Encoding"}
    assert message["Date"].datetime == NOON
    assert message["Message-ID"] == "<effect@example.com>"


def test_html_is_the_alternative_of_the_text():
    message = parsed(a_mail(html="<b>ä</b>"))

    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message.get_body(("html",)).get_content().strip() == "<b>ä</b>"


def test_files_are_attached_as_they_are():
    """Bytes, name and type, whatever the type."""
    files = [
        File("ü.pdf", "application/pdf", bytes(range(256))),
        File("b.txt", "text/plain", b"\xff\r\nx"),
        File("c", "", b""),
    ]

    attached = list(parsed(a_mail(html="<b>x</b>", files=files)).iter_attachments())

    assert [part.get_filename() for part in attached] == ["ü.pdf", "b.txt", "c"]
    assert [part.get_content_type() for part in attached] == [
        "application/pdf",
        "text/plain",
        "application/octet-stream",
    ]
    assert [part.get_payload(decode=True) for part in attached] == [file.content for file in files]


def test_the_wire_carries_seven_bits_and_short_lines():
    """Any server takes it."""
    content = bytes(messages.compose(a_mail(subject="ü" * 300, text="ö" * 5_000, html="ä" * 5_000)))

    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_the_message_id_is_that_of_the_effect():
    """In the domain of the sender; the same whenever it is made."""
    assert messages.message_id("0190", "Waybill <w@mail.example.com>") == "<0190@mail.example.com>"


def test_the_instant_of_acceptance_is_in_the_id():
    """A UUIDv7 begins with Unix milliseconds."""
    milliseconds = int(NOON.timestamp() * 1_000)

    assert (
        messages.accepted_at(
            f"operations/notify/{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7000-8000-{0:012x}"
        )
        == NOON
    )


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("field", ["subject", "sender", "recipient", "message_id"])
def test_a_line_break_in_a_header_is_refused(field, end):
    """It would begin a header of the sender's choice."""
    value = getattr(a_mail(), field)

    with pytest.raises(ValueError):
        bytes(messages.compose(a_mail(**{field: f"{value}{end}Bcc: eve@example.com"})))


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=120),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=120),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)
def test_nothing_that_is_given_becomes_a_header(subject, text, filename):
    """Either it is refused, or the message has the headers that it should have and no others."""
    try:
        message = parsed(a_mail(subject=subject, text=text, files=[File(filename, "text/plain", b"x")]))
    except ValueError:
        return

    assert set(message.keys()) == HEADERS
    body, attached = message.iter_parts()
    assert {name.lower() for part in (body, attached) for name in part} <= {
        *("content-type", "content-transfer-encoding", "content-disposition", "mime-version")
    }
