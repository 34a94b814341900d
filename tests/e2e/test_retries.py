"""Attempts that fail: retried with backoff to success, or ended as dead letters, which are replayed or discarded."""

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2
from standardwebhooks import Webhook
from waybill.admin.v1 import admin_pb2
from waybill.events.v1 import events_pb2
from waybill.notify.v1 import internal_pb2, notify_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from tests import documents, notices
from tests.receiver import Answer
from tests.refusals import reason_of, refused
from tests.stack import response_of, unique, unpacked

REFUSED = "notify.deliver_webhook/WEBHOOK_REFUSED"


@pytest.fixture(autouse=True)
def template(stack):
    notices.ensure_template(stack)


@pytest.fixture
def letters(stack):
    """Dead letters of notify."""
    return stack.dead_letters("notify")


@pytest.fixture
def dead(stack, receiver):
    """A delivery that its receiver has refused for good, and the receiver's endpoint, which takes the next one."""
    endpoint = receiver.endpoint().answers(Answer(400), Answer(200))
    _, (delivery,) = notices.send(stack, endpoint.channel, what="a refusal")
    stack.finished(delivery)
    return delivery, endpoint


def seconds(timestamp):
    return timestamp.ToNanoseconds() / 1e9


def ids_of(endpoint):
    """The webhook-ids by which a receiver knows what it has had before."""
    return {request.headers["webhook-id"] for request in endpoint.received}


def replay(letters, name, **fields):
    return letters.ReplayDeadLetter(admin_pb2.ReplayDeadLetterRequest(operation=name, **fields))


def test_a_busy_receiver_is_tried_again_when_it_asks(stack, receiver):
    """503 with Retry-After, then 200: a second attempt, no sooner, with the same id and a fresh valid signature."""
    endpoint = receiver.endpoint().answers(Answer(503, {"retry-after": "2"}), Answer(200))
    _, (delivery,) = notices.send(stack, endpoint.channel)

    operation, kept = stack.finished(delivery)
    first, second = kept.attempts

    assert kept.state == ops.OPERATION_STATE_SUCCEEDED
    assert (first.outcome, reason_of(first.error)) == (ops.ATTEMPT_OUTCOME_RETRIED, "WEBHOOK_UNAVAILABLE")
    assert second.outcome == ops.ATTEMPT_OUTCOME_SUCCEEDED
    assert seconds(second.begin_time) - seconds(first.end_time) >= 2
    assert response_of(operation, notify_pb2.DeliverResponse).delivery.receipt == "HTTP 200 OK"
    assert len(endpoint.received) == 2
    assert ids_of(endpoint) == {response_of(operation, notify_pb2.DeliverResponse).delivery.message_id}
    for request in endpoint.received:
        verified = Webhook(endpoint.secret).verify(request.body, request.headers)
        assert verified["data"]["text"] == "This is about webhooks."


def test_between_two_attempts_an_operation_says_when_the_next_is_due(stack, receiver):
    """RETRYING, with the error of the last attempt and the time of the next; cancelled, it has none."""
    endpoint = receiver.endpoint().answers(Answer(503, {"retry-after": "600"}))
    with stack.follow("notify", "waybill.notify.operation.retried") as retried:
        _, (delivery,) = notices.send(stack, endpoint.channel)
        change = retried.operation(delivery)
    _, waiting = stack.get(delivery)

    stack.cancel(delivery)
    _, cancelled = stack.get(delivery)

    assert change.state == waiting.state == ops.OPERATION_STATE_RETRYING
    assert reason_of(waiting.last_error) == "WEBHOOK_UNAVAILABLE"
    assert seconds(waiting.schedule_time) - seconds(waiting.attempts[0].end_time) >= 599
    assert (cancelled.state, len(cancelled.attempts)) == (ops.OPERATION_STATE_CANCELLED, 1)


def test_a_permanent_error_ends_as_a_dead_letter_at_once(stack, letters, dead):
    """400 is not tried again; the dead letter has its error, its payload and its attempts, in the group of its like."""
    name, endpoint = dead
    operation, kept = stack.get(name)
    letter = letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=name))
    listed = letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(group=REFUSED, page_size=1000))

    assert (kept.state, kept.attempt, len(endpoint.received)) == (ops.OPERATION_STATE_FAILED, 1, 1)
    assert (operation.error.code, reason_of(operation.error)) == (code_pb2.FAILED_PRECONDITION, "WEBHOOK_REFUSED")
    assert "HTTP 400" in operation.error.message
    assert letter.error == operation.error
    assert (letter.group, letter.attempts, letter.trace_id) == (REFUSED, 1, kept.trace_id)
    assert unpacked(letter.request, internal_pb2.Deliver).text == "This is about a refusal."
    assert [each.number for each in letter.attempt_log] == [1]
    assert name in {each.operation for each in listed.dead_letters}
    assert {each.group: each.count for each in listed.groups}[REFUSED] == len(listed.dead_letters)


def test_used_up_attempts_end_as_a_dead_letter(stack):
    """What stays out of reach is tried as often as asked; replayed without its need of that, it succeeds."""
    stack.process("metrics", "gateway").kill()
    request = documents.with_a_chart("jobs", options=ops.SubmitOptions(max_attempts=2))
    failed, kept = stack.finished(stack.reports().RenderReport(request))
    letters = stack.dead_letters("reports")
    edited = unpacked(
        letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=failed.name)).request,
        reports_pb2.RenderReportRequest,
    )
    del edited.sections[1:]

    replayed, after = stack.finished(replay(letters, failed.name, edited_request=packed(edited)))

    assert (kept.state, kept.attempt) == (ops.OPERATION_STATE_FAILED, 2)
    outcomes = [ops.ATTEMPT_OUTCOME_RETRIED, ops.ATTEMPT_OUTCOME_FAILED]
    assert [each.outcome for each in kept.attempts] == outcomes
    assert failed.error.code == code_pb2.UNAVAILABLE
    assert (after.state, after.max_attempts) == (ops.OPERATION_STATE_SUCCEEDED, 2)
    report = response_of(replayed, reports_pb2.RenderReportResponse).report
    assert report.report_id == replayed.name.rpartition("/")[2]


def test_an_unedited_replay_succeeds_with_the_effects_of_the_original(stack, letters, dead):
    """A new operation, the same webhook-id; each names the other."""
    name, endpoint = dead

    operation, kept = stack.finished(replay(letters, name))
    _, original = stack.get(name)

    assert kept.state == ops.OPERATION_STATE_SUCCEEDED
    assert operation.name != name
    assert (kept.replayed_from, original.replayed_by) == (name, operation.name)
    assert original.state == ops.OPERATION_STATE_FAILED
    assert len(endpoint.received) == 2
    assert len(ids_of(endpoint)) == 1
    assert len({request.body for request in endpoint.received}) == 1


def test_an_edited_replay_has_effects_of_its_own(stack, letters, dead):
    """The edited payload is run, under the replay's own id; both name each other all the same."""
    name, endpoint = dead
    letter = letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=name))
    payload = unpacked(letter.request, internal_pb2.Deliver)
    payload.text = "Now it is in order."

    operation, kept = stack.finished(replay(letters, name, edited_request=packed(payload)))
    _, original = stack.get(name)
    first, sent = endpoint.received

    assert kept.state == ops.OPERATION_STATE_SUCCEEDED
    assert (kept.replayed_from, original.replayed_by) == (name, operation.name)
    assert sent.headers["webhook-id"] == operation.name.rpartition("/")[2] != first.headers["webhook-id"]
    assert Webhook(endpoint.secret).verify(sent.body, sent.headers)["data"]["text"] == "Now it is in order."


def test_a_payload_of_another_type_is_refused(letters, dead):
    """And the dead letter stays as it was."""
    name, _ = dead

    refusal = refused(
        letters.ReplayDeadLetter,
        admin_pb2.ReplayDeadLetterRequest(operation=name, edited_request=packed(notify_pb2.Template())),
    )

    assert refusal.code.name == "INVALID_ARGUMENT"
    assert list(refusal.violations) == ["edited_request"]
    letter = letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=name))
    assert not letter.replayed_by


def test_a_replay_that_is_sent_twice_is_one(letters, dead):
    """Its request_id makes it so; with an edited payload it is another."""
    name, _ = dead
    request_id = unique("replay")

    first, second = (replay(letters, name, request_id=request_id) for _ in range(2))
    edited = admin_pb2.ReplayDeadLetterRequest(
        operation=name, request_id=request_id, edited_request=packed(internal_pb2.Deliver(text="another"))
    )

    assert first.name == second.name
    assert refused(letters.ReplayDeadLetter, edited).reason == "REQUEST_ID_REUSED"


def test_all_dead_letters_of_a_group_are_replayed_once(stack, letters, dead):
    """Those that were not replayed before, each as a new operation, however often it is asked for."""
    name, _ = dead
    request = admin_pb2.ReplayDeadLettersRequest(group=REFUSED)

    for _ in range(2):
        letters.ReplayDeadLetters(request)
    replay_of = letters.GetDeadLetter(admin_pb2.GetDeadLetterRequest(operation=name)).replayed_by

    assert stack.finished(replay_of)[1].replayed_from == name
    delivered = stack.listed("notify", "task = notify.deliver_webhook")
    assert [each for each, kept in delivered if kept.replayed_from == name] == [replay_of]


def test_a_discarded_dead_letter_is_none_any_more(stack, letters, dead):
    """The operation stays FAILED; there is nothing left to replay."""
    name, _ = dead
    letters.DiscardDeadLetter(admin_pb2.DiscardDeadLetterRequest(operation=name))

    listed = letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(page_size=1000)).dead_letters

    assert name not in {each.operation for each in listed}
    for call, request in (
        (letters.GetDeadLetter, admin_pb2.GetDeadLetterRequest(operation=name)),
        (letters.ReplayDeadLetter, admin_pb2.ReplayDeadLetterRequest(operation=name)),
    ):
        assert refused(call, request).brief == ("NOT_FOUND", "DEAD_LETTER_NOT_FOUND")
    assert stack.get(name)[1].state == ops.OPERATION_STATE_FAILED


def test_backoff_lets_an_operation_be_overtaken(stack, receiver):
    """What waits for its next attempt holds up nobody."""
    slow = receiver.endpoint().answers(Answer(503, {"retry-after": "600"}))
    with stack.follow("notify", "waybill.notify.operation.retried") as retried:
        _, (waiting,) = notices.send(stack, slow.channel)
        retried.until(events_pb2.OperationChanged, lambda change: change.operation == waiting)
    quick = receiver.endpoint()
    _, (delivery,) = notices.send(stack, quick.channel)

    assert stack.finished(delivery)[1].state == ops.OPERATION_STATE_SUCCEEDED
    assert stack.get(waiting)[1].state == ops.OPERATION_STATE_RETRYING
    stack.cancel(waiting)


def packed(message):
    made = AnyMessage()
    made.Pack(message)
    return made
