"""What is taken as a recipient: addresses, URLs, secrets."""

import base64

import pytest
from chassis.errors import Violations
from hypothesis import given
from hypothesis import strategies as st
from notify_service import recipients
from notify_service.mail_addresses import address_of, is_address
from notify_service.recipients import secret_problem, url_problem
from waybill.notify.v1 import notify_pb2


def found(recipient, **given):
    violations = Violations()
    recipients.check(recipient, "recipient", violations, **given)
    return {violation.field: violation.description for violation in violations.found}


def test_a_good_recipient_is_taken(a_recipient, an_email, a_webhook):
    assert found(a_recipient("ada.l-1_x", an_email(), a_webhook())) == {}


def test_everything_that_is_wrong_with_a_recipient_is_told_at_once(an_email, a_webhook):
    """Each with the path of its field."""
    recipient = notify_pb2.Recipient(
        recipient_id="-",
        display_name="two\nlines",
        channels=[an_email("nobody"), a_webhook("ftp://x"), a_webhook(secret="short"), notify_pb2.Channel()],
    )

    assert set(found(recipient)) == {
        "recipient.recipient_id",
        "recipient.display_name",
        "recipient.channels[0].email.address",
        "recipient.channels[1].webhook.url",
        "recipient.channels[2].webhook.secret",
        "recipient.channels[3]",
    }


@pytest.mark.parametrize("count", [0, 11])
def test_a_recipient_has_one_to_ten_channels(an_email, count):
    recipient = notify_pb2.Recipient(recipient_id="ada", channels=[an_email()] * count)

    assert list(found(recipient)) == ["recipient.channels"]


def test_a_recipient_given_in_place_needs_no_id(a_recipient):
    assert found(a_recipient(""), id_required=False) == {}
    assert list(found(a_recipient("A"), id_required=False)) == ["recipient.recipient_id"]


@pytest.mark.parametrize(
    "address", ["ada@example.com", "a.b+c@x.y.z", "o'neil@example.com", "ada@localhost", "x@xn--bcher-kva.example"]
)
def test_an_address_is_taken(address):
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("", "ada", "@example.com", "ada@", "a b@example.com", "ada@exa mple.com", "ada@-x.com", "ada@x..com"),
        *(".a@x.y", "a.@x.y", "a..b@x.y", "ada@example.com\n", "ada@example.com\r\nBcc: eve@example.com"),
        *("Ada <ada@example.com>", "ada@example.com, eve@example.com", "ada@[127.0.0.1]", '"a b"@example.com'),
        *("ädä@example.com", "ada@exämple.com", "a" * 65 + "@x.y", "a@" + "x" * 64 + ".y", "a@b@c", "ada@x.y>"),
    ],
)
def test_what_is_not_one_plain_address_is_refused(address):
    """What could end a header or a command line above all."""
    assert not is_address(address)


@given(st.text())
def test_whatever_is_taken_as_an_address_has_nothing_that_a_protocol_reads(text):
    """Neither space nor control character nor bracket, comma or quote."""
    address = f"{text}@example.com"

    if is_address(address):
        assert address.isascii()
        assert address.isprintable()
        assert not set(address) & set(' <>,;:()[]"\\')


@pytest.mark.parametrize(
    "sender", ["waybill@localhost", "Waybill <waybill@example.com>", '"Way, bill" <w@example.com>']
)
def test_a_sender_may_have_a_name(sender):
    assert is_address(address_of(sender).addr_spec)


@pytest.mark.parametrize("sender", ["", "Waybill", "a@b, c@d", "Way\nbill <w@example.com>"])
def test_a_sender_is_one_address(sender):
    with pytest.raises(ValueError, match="expected one address"):
        address_of(sender)


@pytest.mark.parametrize(
    "url", ["https://example.com", "http://example.com:8080/a?b=c", "http://[::1]/x", "HTTPS://EXAMPLE.COM/%20"]
)
def test_a_url_is_taken(url):
    assert url_problem(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd", "gopher://x", "http://"),
        *("http://user:pass@example.com", "http://user@example.com", "http://@example.com", "http://x/#fragment"),
        *("http://x:0/", "http://x:99999/", "http://x:y/", "http://[::1", "http://x/\r\nHost: y", "http://x/ y"),
        *("http://exämple.com", "http://x/\x7f", "http://" + "x" * 2_048),
    ],
)
def test_what_is_no_url_of_a_webhook_is_refused(url):
    """With what is wrong with it."""
    assert url_problem(url)


def encoded(size):
    return base64.b64encode(bytes(range(size))).decode()


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_of_24_to_64_bytes_is_taken(size):
    assert secret_problem("whsec_" + encoded(size)) == ""


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_" + encoded(23), "whsec_" + encoded(65), encoded(32), "whsec_!!", "whsec_ä"]
)
def test_another_secret_is_refused_without_being_told(secret):
    """The message shows nothing of it."""
    problem = secret_problem(secret)

    assert problem
    assert len(secret) < 8 or secret.removeprefix("whsec_") not in problem


def test_an_answer_shows_no_secret(a_recipient, a_webhook, an_email, secret):
    """And leaves the recipient as it was."""
    recipient = a_recipient("ada", an_email(), a_webhook())

    shown = recipients.without_secrets(recipient)

    assert secret.encode() not in shown.SerializeToString()
    assert shown.channels[1].webhook.url == "https://example.com/hook"
    assert recipient.channels[1].webhook.secret == secret


def test_an_update_without_a_secret_keeps_that_of_the_same_url(a_recipient, a_webhook, secret):
    """Another URL has none to keep."""
    stored = a_recipient("ada", a_webhook("https://a.example"), a_webhook("https://b.example", secret="other"))
    given = a_recipient("ada", a_webhook("https://b.example", ""), a_webhook("https://c.example", ""))

    completed = recipients.with_kept_secrets(given, stored)

    assert [channel.webhook.secret for channel in completed.channels] == ["other", ""]
