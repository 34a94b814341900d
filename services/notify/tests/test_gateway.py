"""The gateway's own methods over a real port, a real Valkey and a real database."""

import grpc
import pytest
from chassis.operations import Operations
from chassis.rpc_server import RpcServer
from chassis.settings import WaybillSettings
from chassis.statuses import detail, reason_of, rpc_status, violations_of
from chassis.store import AsyncStore, Store
from google.rpc import error_details_pb2
from notify_service import tasks
from notify_service.gateway import NotifyServicer
from waybill.notify.v1 import notify_pb2, notify_pb2_grpc
from waybill.operations.v1 import operations_pb2
from waybill.store.v1 import store_pb2

pytestmark = pytest.mark.anyio


@pytest.fixture
async def notify(valkey, notify_store):
    """A stub of an in-process server."""
    server = RpcServer("notify", WaybillSettings(redis_url=valkey.url))
    operation_store = AsyncStore.connect("notify", valkey.url)
    servicer = NotifyServicer(Operations(operation_store, tasks.app), notify_store)
    server.add(notify_pb2_grpc.add_NotifyServiceServicer_to_server, servicer)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield notify_pb2_grpc.NotifyServiceStub(channel)
    await server.stop(0)
    await operation_store.close()


@pytest.fixture
def filled(notify_store, a_template, a_recipient):
    """A store with a template and a recipient."""
    notify_store.templates.create(a_template())
    notify_store.recipients.create(a_recipient())
    return notify_store


@pytest.fixture
def accepted(valkey):
    """The records of all operations that the store holds."""
    store = Store.connect("notify", valkey.url)

    def records():
        keys = store.client.scan_iter(match=store.keys.operation("*"))
        return [store_pb2.OperationRecord.FromString(store.client.hget(key, "rec")) for key in keys]

    yield records
    store.close()


async def refused(call):
    """Code, reason and the fields that were wrong."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status(caught.value)
    return caught.value.code(), reason_of(status), {violation.field for violation in violations_of(status)}


def a_request(**given):
    request = notify_pb2.SendNotificationRequest(**{"template_id": "welcome", "recipient_ids": ["ada"], **given})
    request.variables.update({"name": "World"})
    return request


async def test_a_notification_is_accepted(notify, filled, accepted):
    """As an operation of its task, without request_id and options in its payload."""
    operation = await notify.SendNotification(a_request(request_id="one"))

    metadata = operations_pb2.OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    assert (metadata.task, metadata.queue) == ("notify.send_notification", "notify.default")
    (record,) = accepted()
    payload = notify_pb2.SendNotificationRequest()
    assert record.request.Unpack(payload)
    assert payload == a_request()


async def test_a_repeated_request_is_one_operation(notify, filled, accepted):
    first, second = [await notify.SendNotification(a_request(request_id="one")) for _ in range(2)]

    assert first.name == second.name
    assert len(accepted()) == 1
    other = notify.SendNotification(a_request(request_id="one", recipient_ids=["ada"], attachments=[a_report()]))
    assert (await refused(other))[1] == "REQUEST_ID_REUSED"


def a_report():
    return notify_pb2.Attachment(report_id="r1")


async def test_everything_that_is_wrong_with_a_request_is_told_at_once(notify, filled, accepted):
    """Its own fields and the submit options; nothing is stored."""
    request = a_request(template_id="", recipient_ids=[], attachments=[a_report()] * 6)
    request.options.max_attempts = 101
    request.options.expire_time.FromSeconds(1)

    code, _, fields = await refused(notify.SendNotification(request))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert fields == {
        "template_id",
        "recipient_ids",
        "attachments",
        "options.max_attempts",
        "options.expire_time",
    }
    assert accepted() == []


async def test_everything_that_is_missing_is_named(notify, filled, accepted):
    """The template, and all recipients that do not exist."""
    request = a_request(template_id="other", recipient_ids=["ada", "bob", "eve"])

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await notify.SendNotification(request)

    info = detail(rpc_status(caught.value), error_details_pb2.ErrorInfo)
    assert (caught.value.code(), info.reason) == (grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert info.metadata == {"template_id": "other", "recipient_ids": "bob,eve"}
    assert info.domain == "notify"
    with_template = notify.SendNotification(a_request(recipient_ids=["bob"]))
    assert (await refused(with_template))[1] == "RECIPIENT_NOT_FOUND"
    assert accepted() == []


async def test_a_secret_given_in_place_is_in_no_payload_and_no_answer(
    notify, filled, accepted, a_recipient, a_webhook, secret
):
    """Whoever may read operations may not sign as the service."""
    operation = await notify.SendNotification(a_request(recipients=[a_recipient("", a_webhook())]))

    (record,) = accepted()
    assert secret.encode() not in record.SerializeToString()
    assert secret.encode() not in operation.SerializeToString()


async def test_a_batch_is_answered_item_by_item(notify, filled, accepted):
    """Each is atomic by itself; errors are where their requests are."""
    requests = [
        a_request(request_id="one"),
        a_request(template_id="-"),
        a_request(recipient_ids=["bob"]),
        a_request(request_id="two"),
        a_request(request_id="one"),
    ]

    answer = await notify.BatchSendNotifications(notify_pb2.BatchSendNotificationsRequest(requests=requests))

    assert [item.WhichOneof("result") for item in answer.items] == [
        *("operation", "error", "error", "operation", "operation")
    ]
    assert violations_of(answer.items[1].error)[0].field == "template_id"
    assert reason_of(answer.items[2].error) == "RECIPIENT_NOT_FOUND"
    assert answer.items[0].operation.name == answer.items[4].operation.name
    assert len(accepted()) == 2


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_batch_has_one_to_a_thousand_requests(notify, count):
    requests = [notify_pb2.SendNotificationRequest()] * count

    refusal = await refused(notify.BatchSendNotifications(notify_pb2.BatchSendNotificationsRequest(requests=requests)))

    assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", {"requests"})


async def test_the_life_of_a_template(notify, a_template):
    """Create, get, list, update, delete."""
    created = await notify.CreateTemplate(notify_pb2.CreateTemplateRequest(template=a_template()))
    updated = await notify.UpdateTemplate(notify_pb2.UpdateTemplateRequest(template=a_template(text="Other")))

    assert (created.version, updated.version) == (1, 2)
    assert await notify.GetTemplate(notify_pb2.GetTemplateRequest(template_id="welcome")) == updated
    listed = await notify.ListTemplates(notify_pb2.ListTemplatesRequest())
    assert (list(listed.templates), listed.next_page_token) == ([updated], "")
    again = notify.CreateTemplate(notify_pb2.CreateTemplateRequest(template=a_template()))
    assert (await refused(again))[:2] == (grpc.StatusCode.ALREADY_EXISTS, "TEMPLATE_EXISTS")
    await notify.DeleteTemplate(notify_pb2.DeleteTemplateRequest(template_id="welcome"))
    gone = notify.GetTemplate(notify_pb2.GetTemplateRequest(template_id="welcome"))
    assert (await refused(gone))[:2] == (grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")


async def test_a_template_that_reaches_out_of_the_sandbox_is_refused(notify, a_template, notify_store):
    """With the line, and a reason of its own."""
    template = a_template(text="Hello\n{{ ''.__class__.__mro__ }}")

    for call, request in (
        (notify.CreateTemplate, notify_pb2.CreateTemplateRequest(template=template)),
        (notify.UpdateTemplate, notify_pb2.UpdateTemplateRequest(template=template)),
        (notify.PreviewTemplate, notify_pb2.PreviewTemplateRequest(template=template)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request)
        status = rpc_status(caught.value)
        assert (caught.value.code(), reason_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "TEMPLATE_SANDBOX")
        (violation,) = violations_of(status)
        assert violation.field == "template.text"
        assert violation.description.startswith("line 2: '__class__'")
    assert notify_store.templates.page(9) == []


async def test_a_preview_renders_a_stored_template_or_one_given(notify, filled, a_template):
    """For a sample recipient, or for the one that its variables give."""
    stored = notify_pb2.PreviewTemplateRequest(template_id="welcome")
    stored.variables.update({"name": "World", "recipient": {"display_name": "Ada"}})
    given = notify_pb2.PreviewTemplateRequest(template=a_template("", html="<b>{{ name }}</b>"))
    given.variables.update({"name": "<i>"})

    first, second = await notify.PreviewTemplate(stored), await notify.PreviewTemplate(given)

    assert (first.subject, first.text, first.html) == ("Hello World", "Dear Ada, welcome.", "")
    assert (second.text, second.html) == ("Dear Preview, welcome.", "<b>&lt;i&gt;</b>")


async def test_a_preview_that_fails_says_where(notify, filled):
    """The line of the part, and why; another template is not found, none is invalid."""
    missing = notify.PreviewTemplate(notify_pb2.PreviewTemplateRequest(template_id="welcome"))
    unknown = notify.PreviewTemplate(notify_pb2.PreviewTemplateRequest(template_id="other"))
    none = notify.PreviewTemplate(notify_pb2.PreviewTemplateRequest())

    assert await refused(missing) == (
        *(grpc.StatusCode.INVALID_ARGUMENT, "TEMPLATE_VARIABLE_UNDEFINED", {"template.subject"}),
    )
    assert (await refused(unknown))[:2] == (grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert await refused(none) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", {"template_id"})


async def test_the_life_of_a_recipient(notify, a_recipient, an_email, a_webhook, notify_store, secret):
    """Answers never show a secret, and an update may leave it out."""
    recipient = a_recipient("ada", an_email(), a_webhook())
    created = await notify.CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=recipient))
    changed = a_recipient("ada", a_webhook(secret=""), display_name="Countess")
    updated = await notify.UpdateRecipient(notify_pb2.UpdateRecipientRequest(recipient=changed))

    got = await notify.GetRecipient(notify_pb2.GetRecipientRequest(recipient_id="ada"))
    listed = await notify.ListRecipients(notify_pb2.ListRecipientsRequest())
    assert got == updated == listed.recipients[0]
    assert got.display_name == "Countess"
    assert all(secret.encode() not in answer.SerializeToString() for answer in (created, updated, got, listed))
    assert notify_store.recipients.secret("ada", "https://example.com/hook") == secret
    await notify.DeleteRecipient(notify_pb2.DeleteRecipientRequest(recipient_id="ada"))
    gone = notify.GetRecipient(notify_pb2.GetRecipientRequest(recipient_id="ada"))
    assert (await refused(gone))[:2] == (grpc.StatusCode.NOT_FOUND, "RECIPIENT_NOT_FOUND")


async def test_a_bad_recipient_is_refused_whole(notify, a_recipient, a_webhook):
    """A new URL needs a secret; so does a recipient that is not there to keep one."""
    recipient = a_recipient("ada", a_webhook("ftp://x"), a_webhook(secret=""))

    for call, request in (
        (notify.CreateRecipient, notify_pb2.CreateRecipientRequest(recipient=recipient)),
        (notify.UpdateRecipient, notify_pb2.UpdateRecipientRequest(recipient=recipient)),
    ):
        _, _, fields = await refused(call(request))
        assert fields == {"recipient.channels[0].webhook.url", "recipient.channels[1].webhook.secret"}


async def test_the_life_of_a_subscription(notify, filled, a_subscription):
    """Create, get, list, update, delete."""
    created = await notify.CreateEventSubscription(
        notify_pb2.CreateEventSubscriptionRequest(subscription=a_subscription())
    )
    updated = await notify.UpdateEventSubscription(
        notify_pb2.UpdateEventSubscriptionRequest(subscription=a_subscription(disabled=True))
    )

    assert (created.disabled, updated.disabled) == (False, True)
    got = await notify.GetEventSubscription(notify_pb2.GetEventSubscriptionRequest(subscription_id="on-fire"))
    listed = await notify.ListEventSubscriptions(notify_pb2.ListEventSubscriptionsRequest())
    assert got == updated == listed.subscriptions[0]
    in_use = notify.DeleteRecipient(notify_pb2.DeleteRecipientRequest(recipient_id="ada"))
    assert (await refused(in_use))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "RECIPIENT_IN_USE")
    await notify.DeleteEventSubscription(notify_pb2.DeleteEventSubscriptionRequest(subscription_id="on-fire"))
    gone = notify.GetEventSubscription(notify_pb2.GetEventSubscriptionRequest(subscription_id="on-fire"))
    assert (await refused(gone))[:2] == (grpc.StatusCode.NOT_FOUND, "SUBSCRIPTION_NOT_FOUND")


async def test_a_bad_subscription_is_refused(notify, filled, a_subscription):
    """By its form, and by what it names."""
    malformed = notify_pb2.CreateEventSubscriptionRequest(subscription=a_subscription("", event_type="x"))
    dangling = notify_pb2.CreateEventSubscriptionRequest(subscription=a_subscription(recipient_ids=["ada", "bob"]))

    assert (await refused(notify.CreateEventSubscription(malformed)))[2] == {
        *("subscription.subscription_id", "subscription.event_type")
    }
    assert (await refused(notify.CreateEventSubscription(dangling)))[:2] == (
        *(grpc.StatusCode.NOT_FOUND, "RECIPIENT_NOT_FOUND"),
    )


async def test_lists_are_paged(notify, notify_store, a_template, a_recipient, a_subscription):
    """Each token leads to the next page, the last to none; another token is refused."""
    for name in ("a", "b", "c"):
        notify_store.templates.create(a_template(name))
        notify_store.recipients.create(a_recipient(name))
        notify_store.subscriptions.create(a_subscription(name, template_id=name, recipient_ids=[name]))
        delivery = notify_pb2.Delivery(recipient_id=name, notification="operations/notify/x")
        notify_store.deliveries.begin(f"effect-{name}", delivery)

    for call, kind, field, ids in (
        (notify.ListTemplates, notify_pb2.ListTemplatesRequest, "template_id", ["a", "b", "c"]),
        (notify.ListRecipients, notify_pb2.ListRecipientsRequest, "recipient_id", ["a", "b", "c"]),
        (notify.ListEventSubscriptions, notify_pb2.ListEventSubscriptionsRequest, "subscription_id", ["a", "b", "c"]),
        (notify.ListDeliveries, notify_pb2.ListDeliveriesRequest, "recipient_id", ["c", "b", "a"]),
    ):
        first = await call(kind(page_size=2))
        second = await call(kind(page_size=2, page_token=first.next_page_token))
        items = [item for answer in (first, second) for _, value in answer.ListFields()[:1] for item in value]
        assert [getattr(item, field) for item in items] == ids
        assert second.next_page_token == ""
        assert (await refused(call(kind(page_size=-1, page_token="?"))))[2] == {"page_size", "page_token"}


async def test_deliveries_are_found_by_notification_and_recipient(notify, notify_store):
    for number in range(4):
        delivery = notify_pb2.Delivery(notification=f"operations/notify/{number % 2}", recipient_id=f"r{number // 2}")
        notify_store.deliveries.begin(f"effect-{number}", delivery)

    by_both = await notify.ListDeliveries(
        notify_pb2.ListDeliveriesRequest(notification="operations/notify/1", recipient_id="r0")
    )

    (delivery,) = by_both.deliveries
    assert (delivery.notification, delivery.recipient_id) == ("operations/notify/1", "r0")


@pytest.mark.parametrize(
    ("method", "kind", "field"),
    [
        ("GetTemplate", notify_pb2.GetTemplateRequest, "template_id"),
        ("DeleteTemplate", notify_pb2.DeleteTemplateRequest, "template_id"),
        ("GetRecipient", notify_pb2.GetRecipientRequest, "recipient_id"),
        ("DeleteRecipient", notify_pb2.DeleteRecipientRequest, "recipient_id"),
        ("GetEventSubscription", notify_pb2.GetEventSubscriptionRequest, "subscription_id"),
        ("DeleteEventSubscription", notify_pb2.DeleteEventSubscriptionRequest, "subscription_id"),
    ],
)
async def test_an_id_that_is_none_is_refused(notify, method, kind, field):
    """Before anything is looked for."""
    for value in ("", "Upper", "a/b"):
        refusal = await refused(getattr(notify, method)(kind(**{field: value})))
        assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", {field})
