"""Webhooks as Standard Webhooks has them: signature, payload, and what an answer means."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from chassis.errors import PermanentError, TransientError
from hypothesis import given
from hypothesis import strategies as st
from notify_service import webhooks
from notify_service.webhooks import retry_after
from standardwebhooks import Webhook, WebhookVerificationError
from waybill.notify.v1 import internal_pb2, notify_pb2

NAME = "operations/notify/0190b0a0-1234-7000-8000-000000000000"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def a_message(**given):
    fields = {
        "notification": NAME,
        "recipient_id": "ada",
        "subject": "Hällo",
        "text": "Dear Ada",
        "html": "<p>Dear Ada</p>",
        "template_id": "welcome",
        "template_version": 3,
        "attachments": [
            notify_pb2.Attachment(filename="a.txt", media_type="text/plain"),
            notify_pb2.Attachment(report_id="r1"),
        ],
    }
    return internal_pb2.Deliver(**{**fields, **given})


def test_a_receiver_verifies_the_signature(secret):
    """With the package that Standard Webhooks publishes."""
    body = webhooks.payload(a_message())

    headers = webhooks.headers("effect-1", secret, body, datetime.now(UTC))

    assert Webhook(secret).verify(body, headers) == json.loads(body)
    assert headers["webhook-id"] == "effect-1"


def test_a_receiver_refuses_what_was_changed(secret):
    body = webhooks.payload(a_message())
    headers = webhooks.headers("effect-1", secret, body, datetime.now(UTC))

    for changed in ({**headers, "webhook-id": "effect-2"}, {**headers, "webhook-timestamp": "1"}):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"Ada", b"Eve"), headers)


def test_the_payload_says_what_the_notification_is():
    """Type, timestamp and data, as Standard Webhooks recommends; attachments by their names."""
    payload = json.loads(webhooks.payload(a_message()))

    assert payload == {
        "type": "waybill.notify.notification",
        "timestamp": "2024-07-14T09:43:18.836Z",
        "data": {
            "notification": NAME,
            "recipient_id": "ada",
            "subject": "Hällo",
            "text": "Dear Ada",
            "html": "<p>Dear Ada</p>",
            "attachments": [{"filename": "a.txt", "media_type": "text/plain"}, {"report_id": "r1"}],
            "template_id": "welcome",
            "template_version": 3,
        },
    }


def test_the_payload_is_the_same_in_every_attempt():
    """A receiver may compare what it got twice."""
    assert webhooks.payload(a_message()) == webhooks.payload(a_message())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_answer_is_a_delivery(status):
    assert webhooks.receipt(status, {}, NOON).startswith(f"HTTP {status}")


@pytest.mark.parametrize(
    ("status", "reason"),
    [(status, "WEBHOOK_REFUSED") for status in (400, 401, 403, 404, 405, 409, 413, 422, 451)]
    + [(410, "WEBHOOK_GONE")]
    + [(status, "WEBHOOK_REDIRECTED") for status in (300, 301, 302, 303, 304, 307, 308)],
)
def test_an_answer_that_will_not_change_is_permanent(status, reason):
    """Redirects among them: they are not followed."""
    with pytest.raises(PermanentError) as caught:
        webhooks.receipt(status, {"location": "http://127.0.0.1/"}, NOON)

    assert caught.value.reason == reason
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("status", [100, 408, 425, 429, 500, 502, 503, 504, 599])
def test_an_answer_that_may_change_is_worth_another_attempt(status):
    with pytest.raises(TransientError) as caught:
        webhooks.receipt(status, {}, NOON)

    assert caught.value.retry_after is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_says_when_to_come_again(status):
    """Retry-After reaches the retry decision."""
    with pytest.raises(TransientError) as caught:
        webhooks.receipt(status, {"retry-after": "17"}, NOON)

    assert caught.value.retry_after == timedelta(seconds=17)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        *(("0", 0), ("120", 120), (" 5 ", 5), ("999999999999", 3_600)),
        *((format_datetime(NOON + timedelta(minutes=2), usegmt=True), 120), ("Wed, 01 Jul 2020 12:00:00 GMT", 0)),
        *((format_datetime(NOON + timedelta(days=9), usegmt=True), 3_600),),
    ],
)
def test_a_wait_is_read_in_seconds_or_as_a_date_and_bounded(value, wait):
    """RFC 9110; at most an hour, at least nothing."""
    assert retry_after(value, NOON) == timedelta(seconds=wait)


@given(st.text())
def test_a_wait_that_cannot_be_read_is_none(value):
    """Whatever a receiver writes there does no harm."""
    wait = retry_after(value, NOON)

    assert wait is None or timedelta(0) <= wait <= timedelta(hours=1)
