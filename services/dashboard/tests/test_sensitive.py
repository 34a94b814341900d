"""What a contract marks as sensitive is on no page, even where a gateway would send it."""

from google.rpc import code_pb2
from waybill.notify.v1 import notify_pb2

from services.dashboard.tests.fake_service import a_status

SECRET = "whsec_c2VjcmV0c2VjcmV0"


def test_a_marked_field_is_on_no_page_and_in_no_stream(browser, fakes):
    """The operation's page, the dead letter's with its form, and the lists."""
    notify = fakes["notify"].service
    request = notify_pb2.SendNotificationRequest(template_id="alert")
    request.recipients.add().channels.add().webhook.CopyFrom(
        notify_pb2.WebhookChannel(url="https://one.example/hook", secret=SECRET)
    )

    def make():
        kept = notify.accept("notify.send_notification", request)
        notify.begin(kept)
        notify.fail(kept, a_status(code_pb2.INVALID_ARGUMENT, "refused", "REFUSED"))
        return kept

    kept = fakes.do(make)

    pages = [
        browser.get(path).text
        for path in (
            f"/operations/notify/{kept.id}",
            f"/dead-letters/notify/{kept.id}",
            "/operations",
            "/dead-letters?service=notify",
            "/",
        )
    ]
    assert "https://one.example/hook" in pages[0]
    assert "[redacted]" in pages[1]
    assert [page for page in pages if SECRET in page] == []
