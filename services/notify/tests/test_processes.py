"""The service's real processes, against a real Valkey, a real receiver and the contract of reports."""

import email
import email.policy

import grpc
import pytest
from chassis.statuses import reason_of
from chassis.testing.harness import Harness, ServiceUnderTest, metadata_of
from standardwebhooks import Webhook
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.notify.v1 import notify_pb2, notify_pb2_grpc
from waybill.operations.v1 import operations_pb2
from waybill.reports.v1 import reports_pb2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory, reports_service):
    """Gateway, worker and subscriber; reports is the fake. Webhooks may reach 127.0.0.1 and nothing else private."""
    environment = {
        "WAYBILL_ROUTES": f"reports={reports_service.address}",
        "NOTIFY_WEBHOOK_ALLOW_PRIVATE": "127.0.0.1",
        "WAYBILL_LEASE_SECONDS": "2",
    }
    spec = ServiceUnderTest("notify", "notify_service", roles=("gateway", "worker", "subscriber"))
    with Harness(tmp_path_factory.mktemp("notify"), [spec], environment=environment) as running:
        running.start()
        yield running


@pytest.fixture(scope="module")
def notify(stack, a_template):
    """A stock stub of the gateway, with a template."""
    stub = stack.stub("notify", notify_pb2_grpc.NotifyServiceStub)
    stub.CreateTemplate(notify_pb2.CreateTemplateRequest(template=a_template()))
    return stub


@pytest.fixture
def a_reader(a_recipient, an_email):
    """A recipient with a mail address of its name, and further channels."""

    def make(name, *channels, recipient_id=""):
        return a_recipient(recipient_id, an_email(f"{name}@example.com"), *channels)

    return make


def a_request(**given):
    request = notify_pb2.SendNotificationRequest(**{"template_id": "welcome", **given})
    request.variables.update({"name": "World"})
    return request


def mails(stack, name):
    """What has been mailed to that name. What lies in `tmp` is a draft that a killed worker has left: no mail."""
    folder = stack.state_dir / "notify" / "Maildir"
    files = [path for part in ("new", "cur") for path in (folder / part).glob("*")]
    read = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in files]
    return [mail for mail in read if mail["To"] == f"{name}@example.com"]


def deliveries(stack, operation):
    """The notification's own metadata, and each delivery with its metadata, in their final states."""
    answer, metadata = stack.finished(operation)
    response = notify_pb2.SendNotificationResponse()
    assert answer.response.Unpack(response), answer
    return metadata, [stack.finished(name) for name in response.deliveries]


def test_a_notification_reaches_every_channel(stack, notify, reports, receiver, a_reader, a_webhook, secret):
    """Mail with a report attached, a signed webhook, the list of deliveries, and an event for each."""
    reports.add("r1", b"%PDF the report")
    recipient = a_reader("ada", a_webhook(receiver.url()), recipient_id="ada")
    notify.CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=recipient))

    operation = notify.SendNotification(
        a_request(recipient_ids=["ada"], attachments=[notify_pb2.Attachment(report_id="r1")])
    )
    metadata, children = deliveries(stack, operation)

    assert metadata.children == operations_pb2.ChildrenSummary(total=2, succeeded=2)
    assert [child.queue for _, child in children] == ["notify.mail", "notify.webhook"]
    (mail,) = mails(stack, "ada")
    (attached,) = mail.iter_attachments()
    assert (mail["Subject"], attached.get_payload(decode=True)) == ("Hello World", b"%PDF the report")
    ((_, headers, body),) = receiver.requests
    assert Webhook(secret).verify(body, headers)["data"]["attachments"] == [{"report_id": "r1"}]
    listed = notify.ListDeliveries(notify_pb2.ListDeliveriesRequest(notification=operation.name)).deliveries
    assert {delivery.channel for delivery in listed} == {"email", "webhook"}
    assert all(delivery.HasField("deliver_time") for delivery in listed)
    assert published(stack, 2, "ada") == {delivery.operation for delivery in listed}


def published(stack, count, recipient_id):
    """The first deliveries to a recipient that `waybill.notify.delivery.delivered` was published for."""
    stub = stack.stub("notify", events_pb2_grpc.EventServiceStub)
    request = events_pb2.SubscribeRequest(types=["waybill.notify.delivery.delivered"], cursor="0-0")
    stream, found = stub.Subscribe(request, timeout=20), set()
    for answer in stream:
        data = notify_pb2.DeliveryDelivered()
        if answer.event.data.Unpack(data) and data.delivery.recipient_id == recipient_id:
            found.add(data.delivery.operation)
        if len(found) == count:
            break
    stream.cancel()
    return found


def test_no_secret_is_shown_by_any_operation_or_log(stack, notify, receiver, a_recipient, a_webhook, secret):
    """Given in place: the worker still signs with it."""
    operation = notify.SendNotification(a_request(recipients=[a_recipient("", a_webhook(receiver.url()))]))

    metadata, ((answer, child),) = deliveries(stack, operation)

    ((_, headers, body),) = receiver.requests
    Webhook(secret).verify(body, headers)
    shown = [operation, metadata, answer, child, metadata_of(answer)]
    assert all(secret.encode() not in message.SerializeToString() for message in shown)
    assert not any(secret in log for _, log in stack.logs(1_000))


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:{}/", "WEBHOOK_GONE"), ("http://[::1]:{}/", "WEBHOOK_ADDRESS_FORBIDDEN")],
)
def test_a_delivery_that_cannot_succeed_is_a_dead_letter(stack, notify, receiver, a_reader, a_webhook, url, reason):
    """After one attempt; the other channel is delivered to, and the notification says how its deliveries ended."""
    receiver.answers = [(410, {})]
    recipient = a_reader("bob", a_webhook(url.format(receiver.port)))

    metadata, ((sent, _), (failed, child)) = deliveries(
        stack, notify.SendNotification(a_request(recipients=[recipient]))
    )

    assert metadata.children == operations_pb2.ChildrenSummary(total=2, succeeded=1, failed=1)
    assert (reason_of(failed.error), child.attempt) == (reason, 1)
    assert sent.HasField("response")


def test_a_busy_receiver_is_asked_again_when_it_says(stack, notify, receiver, a_recipient, a_webhook):
    """Retry-After is honoured; the second request has the same id."""
    receiver.answers = [(503, {"Retry-After": "1"}), (200, {})]

    _, ((_, child),) = deliveries(
        stack, notify.SendNotification(a_request(recipients=[a_recipient("", a_webhook(receiver.url()))]))
    )

    first, second = child.attempts
    assert second.begin_time.ToNanoseconds() - first.end_time.ToNanoseconds() >= 900_000_000
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1


def test_a_killed_worker_delivers_once_where_the_receiver_can_tell(stack, notify, receiver, a_reader, a_webhook):
    """Kill -9 while the webhook waits for its answer: the next attempt sends the same id; the mail is one file."""
    receiver.released.clear()
    recipient = a_reader("eve", a_webhook(receiver.url()))
    operation = notify.SendNotification(a_request(recipients=[recipient]))
    until_requested(receiver, 1)

    stack.process("notify", "worker").kill()
    receiver.released.set()
    stack.process("notify", "worker").start()
    _, (_, (_, webhook)) = deliveries(stack, operation)

    assert webhook.attempt == 2
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1
    assert len(mails(stack, "eve")) == 1


def until_requested(receiver, count):
    while len(receiver.requests) < count:
        receiver.arrived.wait(20)
        receiver.arrived.clear()


def test_an_event_of_another_service_is_notified_of_once(stack, notify, reports, a_template, a_reader):
    """Published twice, it is one mail; the report that it names is attached."""
    reports.add("r2", b"%PDF the report")
    completed = reports_pb2.ReportCompleted(report=reports.reports["r2"])
    template = a_template("report", subject="{{ data.report.title }}", text="{{ event.type }}")
    notify.CreateTemplate(notify_pb2.CreateTemplateRequest(template=template))
    notify.CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=a_reader("kay", recipient_id="kay")))
    subscription = notify_pb2.EventSubscription(
        subscription_id="on-report",
        event_type="waybill.reports.report.completed",
        template_id="report",
        recipient_ids=["kay"],
        attach_report=True,
    )
    notify.CreateEventSubscription(notify_pb2.CreateEventSubscriptionRequest(subscription=subscription))

    reports.publish(completed, times=2)
    reports.publish(completed, event_id="another")
    assert len(published(stack, 2, "kay")) == 2

    first, second = mails(stack, "kay")
    assert (first["Subject"], first.get_content_type()) == ("Incident", "multipart/mixed")
    assert first["Message-ID"] != second["Message-ID"]


def test_a_gateway_that_is_asked_for_nonsense_says_so(stack, notify):
    """The edge of the service, as a stock client sees it."""
    with pytest.raises(grpc.RpcError) as caught:
        notify.SendNotification(notify_pb2.SendNotificationRequest())

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
