"""Events become notifications, by the subscriptions of the moment."""

import pytest
from notify_service.requests import check_accepted
from notify_service.subscriber import Handler, submissions
from notify_service.variables import from_struct
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.reports.v1 import reports_pb2


def an_event(data, event_type="waybill.metrics.alert.fired"):
    event = events_pb2.Event(id="e1", type=event_type, source="/waybill/metrics", subject="cpu-high")
    event.time.FromJsonString("2026-07-01T12:00:00Z")
    event.data.Pack(data)
    return event


FIRED = an_event(metrics_pb2.AlertFired(alert=metrics_pb2.Alert(display_name="CPU", value=0.5)))
COMPLETED = an_event(
    reports_pb2.ReportCompleted(report=reports_pb2.Report(report_id="r1", title="Incident")),
    "waybill.reports.report.completed",
)


def test_each_subscription_makes_a_notification_of_its_own(a_subscription):
    """Under its id: an event that arrives twice is one notification for each."""
    wanting = [a_subscription("a"), a_subscription("b", template_id="other", recipient_ids=["bob", "eve"])]

    first, second = submissions(FIRED, wanting)

    assert (first.request_id, second.request_id) == ("a", "b")
    assert first.task.name == "notify.send_notification"
    assert (second.request.template_id, list(second.request.recipient_ids)) == ("other", ["bob", "eve"])
    check_accepted(first.request)


def test_the_event_and_its_data_are_variables(a_subscription):
    (submission,) = submissions(FIRED, [a_subscription()])

    variables = from_struct(submission.request.variables)
    assert variables["event"] == {
        "id": "e1",
        "type": "waybill.metrics.alert.fired",
        "source": "/waybill/metrics",
        "subject": "cpu-high",
        "time": "2026-07-01T12:00:00Z",
    }
    assert variables["data"]["alert"]["display_name"] == "CPU"
    assert variables["data"]["alert"]["value"] == 0.5


def test_the_report_of_an_event_is_attached_where_the_subscription_says(a_subscription):
    """It is fetched when the mail is sent."""
    attaching, plain = submissions(COMPLETED, [a_subscription(attach_report=True), a_subscription()])

    assert [attachment.report_id for attachment in attaching.request.attachments] == ["r1"]
    assert list(plain.request.attachments) == []
    check_accepted(attaching.request)


def test_an_event_without_a_report_is_notified_of_without_one(a_subscription):
    (submission,) = submissions(FIRED, [a_subscription(attach_report=True)])

    assert list(submission.request.attachments) == []


def test_data_of_an_unknown_type_is_notified_of_empty(a_subscription):
    """Better than not at all: the event's attributes are there."""
    event = events_pb2.Event(id="e1", type="waybill.metrics.alert.fired")
    event.data.type_url = "type.googleapis.com/waybill.nobody.v1.Thing"

    (submission,) = submissions(event, [a_subscription()])

    assert from_struct(submission.request.variables)["data"] == {}


@pytest.mark.anyio
async def test_the_subscriptions_are_those_of_the_moment(notify_store, a_template, a_recipient, a_subscription):
    """Of the event's type, and not disabled."""
    notify_store.templates.create(a_template())
    notify_store.recipients.create(a_recipient())
    handler = Handler(notify_store)

    assert list(await handler(FIRED)) == []
    notify_store.subscriptions.create(a_subscription())
    notify_store.subscriptions.create(a_subscription("off", disabled=True))
    assert [submission.request_id for submission in await handler(FIRED)] == ["on-fire"]
    assert list(await handler(COMPLETED)) == []
