"""A notification's own task: what it renders, and the deliveries it accepts."""

import pytest
from chassis.errors import InvalidArgument, NotFound, PermanentError
from chassis.testing import attempt
from notify_service import tasks
from notify_service.app import app
from waybill.notify.v1 import notify_pb2


@pytest.fixture
def filled(opened, a_template, a_recipient, an_email, a_webhook):
    """A store with a template and two recipients."""
    opened.templates.create(a_template())
    opened.recipients.create(a_recipient("ada", an_email(), a_webhook()))
    opened.recipients.create(a_recipient("bob", an_email("bob@example.com"), display_name="Bob"))
    return opened


def a_request(**given):
    request = notify_pb2.SendNotificationRequest(**{"template_id": "welcome", "recipient_ids": ["ada", "bob"], **given})
    request.variables.update({"name": "World"})
    return request


def accepted(running):
    return [(task.name, key, payload) for task, payload, key in running.accepted]


def test_each_task_has_its_queue():
    """Mail does not wait for slow webhooks, nor either for the rendering."""
    queues = {name: app.queue_of(name).name for name in app.operation_tasks}

    assert queues == {
        "notify.send_notification": "notify.default",
        "notify.deliver_email": "notify.mail",
        "notify.deliver_webhook": "notify.webhook",
    }


def test_a_notification_fans_out_to_each_channel_of_each_recipient(filled, secret):
    """The answer names the deliveries; their payloads hold no secret."""
    running = attempt(service="notify")

    fanned = tasks.send_notification.run(running, a_request())

    assert [(task, key) for task, key, _ in accepted(running)] == [
        ("notify.deliver_email", "ada/0"),
        ("notify.deliver_webhook", "ada/1"),
        ("notify.deliver_email", "bob/0"),
    ]
    first, second, third = (payload for _, _, payload in accepted(running))
    assert (first.subject, first.text) == ("Hello World", "Dear Ada Lovelace, welcome.")
    assert third.text == "Dear Bob, welcome."
    assert {first.notification, second.notification} == {running.operation}
    assert secret.encode() not in second.SerializeToString()
    assert fanned.children == len(fanned.response.deliveries) == 3


def test_a_second_attempt_accepts_the_same_deliveries(filled, a_template, a_recipient, an_email):
    """Though template and recipient have been changed since: nobody gets two versions of one notification."""
    first = attempt(service="notify")
    tasks.send_notification.run(first, a_request())
    filled.templates.update(a_template(subject="Changed"))
    filled.recipients.update(a_recipient("bob", an_email("new@example.com")))

    second = attempt(service="notify", operation_id=first.operation_id, number=2)
    tasks.send_notification.run(second, a_request())

    assert accepted(second) == accepted(first)


def test_recipients_given_in_place_are_delivered_to(filled, a_recipient, a_webhook):
    """With the references that the gateway has put in place of their secrets."""
    request = filled.secrets.sealed(a_request(recipient_ids=[], recipients=[a_recipient("", a_webhook())]))
    running = attempt(service="notify")

    tasks.send_notification.run(running, request)

    ((task, key, payload),) = accepted(running)
    assert (task, key) == ("notify.deliver_webhook", "#0/0")
    assert payload.channel.webhook.secret.startswith("sealed:")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ missing }}", "TEMPLATE_VARIABLE_UNDEFINED"),
        ("{{ ''['__cl' ~ 'ass__'] }}", "TEMPLATE_SANDBOX"),
        ("{% for a in range(10000000) %}{% endfor %}", "TEMPLATE_LIMIT_EXCEEDED"),
        ("{{ 1 / 0 }}", "TEMPLATE_RENDER_FAILED"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_a_permanent_error(filled, a_template, text, reason):
    """It would fail alike in the next attempt; the error says where."""
    filled.templates.create(a_template("broken", text=text))
    running = attempt(service="notify")

    with pytest.raises(PermanentError, match="'broken': text, line 1") as caught:
        tasks.send_notification.run(running, a_request(template_id="broken"))

    assert caught.value.reason == reason
    assert running.accepted == []


def test_what_was_deleted_since_the_acceptance_is_told(filled):
    filled.recipients.delete("bob")

    with pytest.raises(NotFound) as caught:
        tasks.send_notification.run(attempt(service="notify"), a_request())

    assert caught.value.reason == "RECIPIENT_NOT_FOUND"


def test_a_payload_that_was_edited_into_nonsense_is_refused_for_good(filled):
    """A replay may carry another payload, which no gateway has read."""
    with pytest.raises(InvalidArgument):
        tasks.send_notification.run(attempt(service="notify"), a_request(recipient_ids=[]))


def test_a_large_notification_says_how_far_it_is(filled, a_recipient, an_email):
    """Every hundred deliveries, where a cancelled one ends, too."""
    placed = [a_recipient("", *[an_email(f"r{number}@example.com")] * 10) for number in range(25)]
    running = attempt(service="notify")

    fanned = tasks.send_notification.run(running, a_request(recipient_ids=[], recipients=placed))

    assert fanned.children == 250
    assert [message for _, message in running.progressed] == ["100 deliveries accepted", "200 deliveries accepted"]
