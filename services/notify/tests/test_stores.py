"""The database of notify, on SQLite and on PostgreSQL."""

import threading

import pytest
import sqlalchemy as sa
from chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from chassis.testing import attempt
from notify_service import delivery_store
from notify_service.schema import DELIVERIES, METADATA, RECIPIENTS, SECRETS
from waybill.notify.v1 import notify_pb2


@pytest.fixture
def store(notify_store):
    return notify_store


def refused(kind, call, *given):
    with pytest.raises(kind) as caught:
        call(*given)
    return caught.value


def test_a_template_is_kept_with_its_version(store, a_template):
    created = store.templates.create(a_template(html="<p>x</p>"))

    assert (created.version, created.subject, created.html) == (1, "Hello {{ name }}", "<p>x</p>")
    assert created.create_time == created.update_time
    assert store.templates.get("welcome") == created
    assert store.templates.existing({"welcome", "other"}) == {"welcome"}


def test_each_change_of_a_template_is_a_version(store, a_template):
    """The same text again is none; earlier versions can still be read."""
    first = store.templates.create(a_template())

    unchanged = store.templates.update(a_template())
    changed = store.templates.update(a_template(text="other"))

    assert unchanged == first
    assert (changed.version, changed.text) == (2, "other")
    assert changed.create_time == first.create_time
    assert changed.update_time.ToNanoseconds() > first.update_time.ToNanoseconds()
    assert store.templates.version("welcome", 1).text == first.text


def test_a_template_created_anew_goes_on_counting(store, a_template):
    """An id and a version name one text for ever."""
    store.templates.create(a_template(text="first"))
    store.templates.delete("welcome")

    again = store.templates.create(a_template(text="second"))

    assert again.version == 2
    assert store.templates.version("welcome", 1).text == "first"


def test_changes_of_a_template_at_once_are_versions_one_after_the_other(store, a_template):
    """None is lost and none has another's number."""
    store.templates.create(a_template(text="0"))
    barrier, versions = threading.Barrier(6), []

    def change(number):
        barrier.wait()
        versions.append(store.templates.update(a_template(text=str(number))).version)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(versions) == [2, 3, 4, 5, 6, 7]
    assert len({store.templates.version("welcome", version).text for version in range(1, 8)}) == 7


def test_what_is_not_there_says_so(store, a_template, a_recipient, a_subscription):
    """Every kind of resource, every call; the reason names the kind."""
    for call, given, reason in (
        (store.templates.get, "x", "TEMPLATE_NOT_FOUND"),
        (store.templates.update, a_template("x"), "TEMPLATE_NOT_FOUND"),
        (store.templates.delete, "x", "TEMPLATE_NOT_FOUND"),
        (store.recipients.get, "x", "RECIPIENT_NOT_FOUND"),
        (store.recipients.update, a_recipient("x"), "RECIPIENT_NOT_FOUND"),
        (store.recipients.delete, "x", "RECIPIENT_NOT_FOUND"),
        (store.subscriptions.get, "x", "SUBSCRIPTION_NOT_FOUND"),
        (store.subscriptions.update, a_subscription("x"), "SUBSCRIPTION_NOT_FOUND"),
        (store.subscriptions.delete, "x", "SUBSCRIPTION_NOT_FOUND"),
    ):
        assert refused(NotFound, call, given).reason == reason


def test_what_is_there_is_not_created_again(store, a_template, a_recipient, a_subscription):
    """And stays as it is."""
    store.templates.create(a_template())
    store.recipients.create(a_recipient())
    store.subscriptions.create(a_subscription())

    assert refused(AlreadyExists, store.templates.create, a_template(text="y")).reason == "TEMPLATE_EXISTS"
    assert refused(AlreadyExists, store.recipients.create, a_recipient()).reason == "RECIPIENT_EXISTS"
    assert refused(AlreadyExists, store.subscriptions.create, a_subscription()).reason == "SUBSCRIPTION_EXISTS"
    assert store.templates.get("welcome").version == 1


def test_pages_follow_each_other_by_id(store, a_template, a_recipient, a_subscription):
    """Of templates, recipients and subscriptions alike."""
    for name in ("c", "a", "b"):
        store.templates.create(a_template(name))
        store.recipients.create(a_recipient(name))
    for name in ("c", "a", "b"):
        store.subscriptions.create(a_subscription(name, template_id="a", recipient_ids=["a"]))

    for page, field in (
        (store.templates.page, "template_id"),
        (store.recipients.page, "recipient_id"),
        (store.subscriptions.page, "subscription_id"),
    ):
        assert [getattr(item, field) for item in page(2)] == ["a", "b"]
        assert [getattr(item, field) for item in page(2, ("b",))] == ["c"]
        assert page(2, ("c",)) == []


def test_a_recipient_is_kept_and_shown_without_its_secrets(store, a_recipient, an_email, a_webhook, secret):
    """The secret comes out where a webhook is signed, and nowhere else."""
    created = store.recipients.create(a_recipient("ada", an_email(), a_webhook()))

    shown = [created, store.recipients.get("ada"), *store.recipients.page(9), *store.recipients.all(["ada"])]
    assert all(secret.encode() not in recipient.SerializeToString() for recipient in shown)
    assert len({recipient.SerializeToString(deterministic=True) for recipient in shown}) == 1
    assert store.recipients.secret("ada", "https://example.com/hook") == secret
    assert store.recipients.secret("ada", "https://example.com/other") == ""
    assert store.recipients.secret("bob", "https://example.com/hook") == ""


def test_a_recipient_is_replaced_whole(store, a_recipient, an_email, a_webhook, secret):
    """A webhook without a secret keeps that of its URL."""
    created = store.recipients.create(a_recipient("ada", an_email(), a_webhook()))

    completed = store.recipients.completed(a_recipient("ada", a_webhook(secret=""), display_name="Countess"))
    updated = store.recipients.update(completed)

    assert (updated.display_name, len(updated.channels)) == ("Countess", 1)
    assert updated.create_time == created.create_time
    assert store.recipients.secret("ada", "https://example.com/hook") == secret
    assert store.recipients.completed(a_recipient("bob", a_webhook(secret=""))).channels[0].webhook.secret == ""


def test_all_missing_recipients_are_named(store, a_recipient):
    """In the order in which they were asked for, however many there are."""
    names = [f"r{number:04}" for number in range(1_200)]
    for name in names[::2]:
        with store.recipients._engine.begin() as connection:
            row = {"recipient_id": name, "create_time_us": 0, "update_time_us": 0}
            connection.execute(sa.insert(RECIPIENTS).values(**row, recipient=a_recipient(name).SerializeToString()))

    assert store.recipients.missing(names) == names[1::2]
    assert [found.recipient_id for found in store.recipients.all(names[::2])] == names[::2]
    error = refused(NotFound, store.recipients.all, [*names[:4]])
    assert error.metadata == {"recipient_ids": "r0001,r0003"}


def test_a_subscription_names_what_exists(store, a_template, a_recipient, a_subscription):
    """Everything that is missing is told at once, and nothing is stored."""
    error = refused(NotFound, store.subscriptions.create, a_subscription(recipient_ids=["ada", "bob"]))

    assert error.reason == "TEMPLATE_NOT_FOUND"
    assert error.metadata == {"template_id": "welcome", "recipient_ids": "ada,bob"}
    assert store.subscriptions.page(9) == []

    store.templates.create(a_template())
    store.recipients.create(a_recipient())
    assert refused(NotFound, store.subscriptions.create, a_subscription(recipient_ids=["ada", "bob"])).metadata == {
        "recipient_ids": "bob"
    }
    created = store.subscriptions.create(a_subscription())
    assert store.subscriptions.get("on-fire") == created


def test_what_a_subscription_names_is_not_deleted(store, a_template, a_recipient, a_subscription):
    """The error names the subscription; once it is gone, so may they be."""
    store.templates.create(a_template())
    store.recipients.create(a_recipient())
    store.subscriptions.create(a_subscription())

    template_error = refused(FailedPrecondition, store.templates.delete, "welcome")
    recipient_error = refused(FailedPrecondition, store.recipients.delete, "ada")

    assert (template_error.reason, recipient_error.reason) == ("TEMPLATE_IN_USE", "RECIPIENT_IN_USE")
    assert template_error.metadata["subscription_ids"] == recipient_error.metadata["subscription_ids"] == "on-fire"
    store.subscriptions.delete("on-fire")
    store.templates.delete("welcome")
    store.recipients.delete("ada")


def test_a_subscription_is_replaced_whole(store, a_template, a_recipient, a_subscription):
    """What it no longer names is free."""
    store.templates.create(a_template())
    store.recipients.create(a_recipient("ada"))
    store.recipients.create(a_recipient("bob"))
    store.subscriptions.create(a_subscription())

    updated = store.subscriptions.update(a_subscription(recipient_ids=["bob"], attach_report=True))

    assert (list(updated.recipient_ids), updated.attach_report) == (["bob"], True)
    store.recipients.delete("ada")


def test_disabled_subscriptions_want_nothing(store, a_template, a_recipient, a_subscription):
    """Types are told once each."""
    store.templates.create(a_template())
    store.recipients.create(a_recipient())
    store.subscriptions.create(a_subscription("a"))
    store.subscriptions.create(a_subscription("b"))
    store.subscriptions.create(a_subscription("c", disabled=True, event_type="waybill.metrics.alert.resolved"))

    assert store.subscriptions.wanted_types() == {"waybill.metrics.alert.fired"}
    wanting = store.subscriptions.wanting("waybill.metrics.alert.fired")
    assert [subscription.subscription_id for subscription in wanting] == ["a", "b"]
    assert store.subscriptions.wanting("waybill.metrics.alert.resolved") == []


def a_delivery(number=0, **given):
    fields = {"notification": "operations/notify/n", "recipient_id": "ada", "operation": f"operations/notify/{number}"}
    return notify_pb2.Delivery(**{**fields, **given})


def outbox(store):
    with store.engine.connect() as connection:
        rows = connection.execute(sa.select(METADATA.tables["outbox"])).mappings()
        return [(row["type"], row["subject"]) for row in rows]


def test_a_delivery_is_recorded_when_it_begins_and_when_it_is_done(store):
    """Its event is owed in the transaction that records it as delivered."""
    first = attempt(service="notify")

    begun = store.deliveries.begin(first.effect_id, a_delivery(operation=first.operation))
    assert not begun.HasField("deliver_time")
    assert outbox(store) == []

    done = store.deliveries.finish(first, a_delivery(operation=first.operation, receipt="250 OK"))
    assert done.HasField("deliver_time")
    assert outbox(store) == [("waybill.notify.delivery.delivered", first.operation)]
    assert [delivery for _, delivery in store.deliveries.page(9)] == [done]


def test_a_delivery_that_is_done_stays_as_it_is(store):
    """A second attempt finds it, and one that finishes it again owes nothing new."""
    first = attempt(service="notify")
    again = attempt(service="notify", effect_id=first.effect_id)
    store.deliveries.begin(first.effect_id, a_delivery(1))
    done = store.deliveries.finish(first, a_delivery(1, receipt="one"))

    assert store.deliveries.begin(again.effect_id, a_delivery(2)) == done
    assert store.deliveries.finish(again, a_delivery(2, receipt="two")) == done
    assert len(outbox(store)) == 1


def test_deliveries_are_listed_newest_first_by_notification_and_recipient(store):
    for number in range(5):
        notification = f"operations/notify/{number % 2}"
        recipient_id = f"r{number // 3}"
        delivery = a_delivery(number, notification=notification, recipient_id=recipient_id)
        store.deliveries.begin(f"effect-{number}", delivery)

    def listed(size=9, after=(), **given):
        return [(at, delivery.operation[-1]) for at, delivery in store.deliveries.page(size, after, **given)]

    first = listed(3)
    assert [name for _, name in first] == ["4", "3", "2"]
    assert [name for _, name in listed(3, first[-1][0])] == ["1", "0"]
    assert [name for _, name in listed(notification="operations/notify/1")] == ["3", "1"]
    assert [name for _, name in listed(recipient_id="r1")] == ["4", "3"]
    assert listed(notification="operations/notify/1", recipient_id="r9") == []


def test_what_is_past_its_time_is_forgotten(store, monkeypatch):
    """Deliveries after 90 days, secrets after 400 unused ones; looked for once an hour."""
    day_us = 86_400 * 1_000_000
    now = delivery_store.now_us()
    for name, age in (("old", 91), ("young", 89)):
        monkeypatch.setattr("notify_service.delivery_store.now_us", lambda age=age: now - age * day_us)
        store.deliveries.begin(name, a_delivery())
    with store.engine.begin() as connection:
        for name, age in (("old", 401), ("young", 399)):
            row = {"reference": name, "secret": "x", "use_time_us": now - age * day_us}
            connection.execute(sa.insert(SECRETS).values(row))

    monkeypatch.undo()
    store.deliveries.begin("new", a_delivery())
    assert len(store.deliveries.page(9)) == 3
    store.deliveries._pruned_at = float("-inf")
    store.deliveries.begin("newer", a_delivery())

    with store.engine.connect() as connection:
        assert set(connection.scalars(sa.select(DELIVERIES.c.effect_id))) == {"young", "new", "newer"}
        assert set(connection.scalars(sa.select(SECRETS.c.reference))) == {"young"}


def test_secrets_given_in_place_are_kept_apart(store, a_recipient, a_webhook, an_email, secret):
    """The request carries references, the same for the same secret."""
    recipients = [a_recipient("", a_webhook(), an_email()), a_recipient("", a_webhook())]
    request = notify_pb2.SendNotificationRequest(template_id="welcome", recipients=recipients)

    sealed, again = store.secrets.sealed(request), store.secrets.sealed(request)

    assert sealed == again
    assert secret.encode() not in sealed.SerializeToString()
    assert store.secrets.open(sealed.recipients[1].channels[0].webhook.secret) == secret
    assert store.secrets.open("sealed:unknown") == ""
    assert request.recipients[0].channels[0].webhook.secret == secret


def test_a_plan_stays_as_the_first_attempt_found_it(store, a_template, a_recipient, an_email):
    """Whatever is changed or deleted before the second one."""
    store.templates.create(a_template(text="first"))
    store.recipients.create(a_recipient())
    request = notify_pb2.SendNotificationRequest(template_id="welcome", recipient_ids=["ada"])

    first = store.plans.pinned("operation-1", request)
    store.templates.update(a_template(text="second"))
    store.recipients.update(a_recipient("ada", an_email("new@example.com")))
    again = store.plans.pinned("operation-1", request)
    other = store.plans.pinned("operation-2", request)
    store.templates.delete("welcome")
    store.recipients.delete("ada")

    assert (first.template.text, first.template.version) == (again.template.text, again.template.version)
    assert first.recipients == again.recipients == store.plans.pinned("operation-1", request).recipients
    assert (other.template.text, other.recipients[0].channels[0].email.address) == ("second", "new@example.com")
    assert refused(NotFound, store.plans.pinned, "operation-3", request).reason == "TEMPLATE_NOT_FOUND"
