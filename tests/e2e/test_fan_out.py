"""One notification becomes a delivery for each channel of each recipient, and tells how they ended."""

import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc import code_pb2
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops

from tests import notices
from tests.receiver import Answer
from tests.refusals import reason_of, violations_of
from tests.stack import response_of, unique


@pytest.fixture(autouse=True)
def template(stack):
    notices.ensure_template(stack)


def test_a_notification_succeeds_when_its_deliveries_have_ended_however_they_ended(stack, receiver):
    """Two are delivered, one is refused: the parent has succeeded and counts them; the failed one is a dead letter."""
    taken, refusing = receiver.endpoint(), receiver.endpoint().answers(Answer(400))
    notification, deliveries = notices.send(stack, notices.email(), taken.channel, refusing.channel)

    operation, kept = stack.finished(notification)
    states = [stack.get(name)[1].state for name in deliveries]

    assert kept.state == ops.OPERATION_STATE_SUCCEEDED
    assert kept.children == ops.ChildrenSummary(total=3, succeeded=2, failed=1)
    assert [each.outcome for each in kept.attempts] == [ops.ATTEMPT_OUTCOME_FANNED_OUT]
    assert sorted(response_of(operation, notify_pb2.SendNotificationResponse).deliveries) == sorted(deliveries)
    succeeded, failed = ops.OPERATION_STATE_SUCCEEDED, ops.OPERATION_STATE_FAILED
    assert states == [succeeded, succeeded, failed]
    assert {stack.get(name)[1].parent for name in deliveries} == {notification}
    listed = stack.notify().ListDeliveries(notify_pb2.ListDeliveriesRequest(notification=notification)).deliveries
    delivered = {each.operation for each in listed if each.HasField("deliver_time")}
    assert delivered == set(deliveries[:2])


def test_a_parent_waits_for_its_last_child(stack, receiver):
    """It is RUNNING without a worker until then; cancelled, it takes what has not ended with it."""
    holding, quick = receiver.endpoint().answers(Answer(503)).hold(), receiver.endpoint()
    notification, (held, done) = notices.send(stack, holding.channel, quick.channel)
    stack.finished(done)
    holding.wait_for(1)
    _, waiting = stack.get(notification)

    stack.cancel(notification)
    _, cancelled = stack.get(notification)
    holding.let_go()
    _, child = stack.finished(held)

    assert (waiting.state, waiting.children.succeeded) == (ops.OPERATION_STATE_RUNNING, 1)
    assert waiting.attempts[0].HasField("end_time")
    assert cancelled.state == ops.OPERATION_STATE_CANCELLED
    assert child.state == ops.OPERATION_STATE_CANCELLED
    assert stack.get(done)[1].state == ops.OPERATION_STATE_SUCCEEDED


def test_a_template_that_fails_for_a_recipient_fails_the_notification(stack):
    """A missing variable is no reason for another attempt, and nobody is sent anything."""
    request = notices.request(notices.email())
    request.ClearField("variables")

    operation, kept = stack.finished(stack.notify().SendNotification(request))

    assert (kept.state, kept.attempt, kept.children.total) == (ops.OPERATION_STATE_FAILED, 1, 0)
    assert "what" in operation.error.message
    assert not stack.listed("notify", f"parent = {operation.name}")


def test_each_request_of_a_batch_is_accepted_or_refused_by_itself(stack):
    """One operation or one error for each, in order, with everything that is wrong."""
    good, again = (notices.request(notices.email(), request_id=unique("batch")) for _ in range(2))
    unknown = notices.request(notices.email())
    unknown.template_id = "missing"
    invalid = notices.request(notices.email("nobody"), notices.webhook("ftp://example.com"))
    reused = notices.request(notices.email(), what="another payload", request_id=good.request_id)
    batch = notify_pb2.BatchSendNotificationsRequest(requests=[good, unknown, invalid, reused, again])

    items = stack.notify().BatchSendNotifications(batch).items

    assert [item.WhichOneof("result") for item in items] == ["operation", "error", "error", "error", "operation"]
    codes = [(item.error.code, reason_of(item.error)) for item in items if item.HasField("error")]
    assert codes == [
        (code_pb2.NOT_FOUND, "TEMPLATE_NOT_FOUND"),
        (code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (code_pb2.INVALID_ARGUMENT, "REQUEST_ID_REUSED"),
    ]
    wrong = "recipients[0].channels"
    assert set(violations_of(items[2].error)) == {f"{wrong}[0].email.address", f"{wrong}[1].webhook.url"}
    ended = [stack.finished(item.operation.name)[1] for item in items if item.HasField("operation")]
    assert {kept.state for kept in ended} == {ops.OPERATION_STATE_SUCCEEDED}


def test_a_stored_recipient_is_delivered_to_on_every_channel(stack, receiver):
    """The signature is made with the secret that is stored, which no answer shows."""
    endpoint, person = receiver.endpoint(), unique("person")
    recipient = notify_pb2.Recipient(recipient_id=person, channels=[notices.email(), endpoint.channel])
    shown = stack.notify().CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=recipient))
    variables = Struct()
    variables.update({"what": "stored people"})
    request = notify_pb2.SendNotificationRequest(
        template_id=notices.TEMPLATE, variables=variables, recipient_ids=[person]
    )

    operation, kept = stack.finished(stack.notify().SendNotification(request))

    assert kept.children == ops.ChildrenSummary(total=2, succeeded=2)
    assert not shown.channels[1].webhook.secret
    assert endpoint.secret not in str(operation)
    assert len(endpoint.received) == 1
