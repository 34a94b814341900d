"""A webhook's secret, which its contract marks, from acceptance to the dead letter: nobody is shown it."""

from standardwebhooks import Webhook
from waybill.admin.v1 import admin_pb2
from waybill.events.v1 import events_pb2

from tests import notices
from tests.receiver import Answer


def test_a_secret_is_used_and_told_to_nobody(stack, receiver):
    """It signs the request; no answer, event, span, log or store of operations has it."""
    notices.ensure_template(stack)
    endpoint = receiver.endpoint().answers(Answer(400))
    with stack.follow("notify", "waybill.notify.*") as events:
        notification = stack.notify().SendNotification(notices.request(endpoint.channel, what="a secret")).name
        failed = events.until(events_pb2.OperationChanged, lambda change: change.parent == notification)
        operation, metadata = stack.finished(failed.operation)
        _, parent = stack.finished(notification)
        seen = list(events.seen)
    letters = stack.dead_letters("notify")
    letter = letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=operation.name))
    listed = letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest())
    spans = stack.collector.wait_for_trace(
        metadata.trace_id, lambda found: any("settle" in each.name for each in found)
    )
    store = stack.store("notify").client
    hashes = [store.hgetall(key) for key in store.scan_iter("wb:{notify}:op:*")]

    (received,) = endpoint.received
    Webhook(endpoint.secret).verify(received.body, received.headers)
    told = repr((operation, metadata, parent, letter, listed, seen, spans, hashes, stack.logs(100_000)))
    assert metadata.task == "notify.deliver_webhook"
    assert endpoint.secret not in told
    assert endpoint.secret.removeprefix("whsec_") not in told
