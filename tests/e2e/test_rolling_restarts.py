"""Deploys under load: every process of a service is replaced in turn, and its clients notice nothing.

Clients ask once. What a deploy interrupts, gRPC sends again by the service config's retry policy; nothing else does.
"""

from functools import partial

import pytest
from waybill.events.v1 import events_pb2_grpc
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops

from tests import incident, notices, rolling
from tests.dashboard.onlookers import Subscriber
from tests.stack import unique, until

# The clients ask once, so a failover would fail their calls.
pytestmark = [pytest.mark.own_outage, pytest.mark.slow]

WORK = {"metrics": rolling.ingestion, "notify": rolling.notification, "reports": rolling.report}
SHORT, LONG = 1, 8

rounds = pytest.mark.parametrize(
    "rounds", [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.chaos)]
)


@pytest.mark.parametrize(
    ("service", "rounds"),
    [
        pytest.param("metrics", SHORT, id="metrics-short"),
        *(pytest.param(name, LONG, id=f"{name}-long", marks=pytest.mark.chaos) for name in WORK),
    ],
)
def test_every_process_of_a_service_is_replaced_under_load(stack, service, rounds):
    """No call fails, nothing is lost or done twice, each process ends within its grace; subscribers miss nothing."""
    work = WORK[service](stack)
    mine = [process for process in stack.processes if process.name.startswith(f"{service} ")]
    with rolling.beside(stack, service) as (second, channel):
        follower = partial(Subscriber, events_pb2_grpc.EventServiceStub(channel), service)
        with stack.follow(service) as position:
            cursor = position.cursor
        with follower(cursor) as followed:
            with rolling.Load(work, channel) as load:
                for _ in range(rounds):
                    for process in (*mine, second):
                        rolling.redeploy_under(load, process)
            names = rolling.judge(stack, load)
            followed.wait_for(lambda it: it.ended >= set(names))
        with follower(cursor) as records:
            records.wait_for(lambda it: it.ended >= set(names))

    assert len(followed.seen) == len(set(followed.seen))
    # The scheduler's operations go on, so one of the two has seen more.
    assert all(one == other for one, other in zip(followed.seen, records.seen, strict=False))


@rounds
def test_subscribers_and_scheduler_are_replaced_while_an_incident_runs(stack, rounds):
    """The alert is mailed once, its report is rendered and mailed once, whoever was replaced in between."""
    replaced = [
        stack.process(*name) for name in (("notify", "subscriber"), ("reports", "subscriber"), ("metrics", "scheduler"))
    ]

    for _ in range(rounds):
        told = incident.run(stack, once_fired=lambda: [rolling.redeploy(process) for process in replaced])
        incident.unsubscribe(stack, told.alert.rule_id)

        # Reports of other tests are mailed to the same address.
        assert rolling.mails_to(stack, f"{told.alert.rule_id}@example.com", told.report.sha256) == 1
        deliveries = stack.listed("notify", f"trace_id = {told.trace_id} AND task = notify.deliver_email")
        assert [kept.state for _, kept in deliveries] == [ops.OPERATION_STATE_SUCCEEDED] * 2
        tasks = [kept.task for _, kept in stack.listed("reports", f"trace_id = {told.trace_id}")]
        assert tasks == ["reports.render_incident"]


@rounds
def test_a_subscriber_replaced_under_load_hands_on_each_event_once(stack, rounds):
    """One notification for each report that was completed, none twice, none left out."""
    name = unique("rolled")
    notices.ensure_template(stack)
    recipient = notify_pb2.Recipient(recipient_id=name, channels=[notices.email(f"{name}@example.com")])
    stack.notify().CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=recipient))
    template = notify_pb2.Template(template_id=name, subject="Ready", text="{{ data.report.filename }}")
    stack.notify().CreateTemplate(notify_pb2.CreateTemplateRequest(template=template))
    subscription = notify_pb2.EventSubscription(
        subscription_id=name, event_type=incident.COMPLETED, template_id=name, recipient_ids=[name]
    )
    stack.notify().CreateEventSubscription(notify_pb2.CreateEventSubscriptionRequest(subscription=subscription))
    incident.wait_until_followed(stack, "reports")

    with rolling.over(stack.addresses["reports"]) as channel, rolling.Load(rolling.report(stack), channel) as load:
        for _ in range(2 * rounds):
            rolling.redeploy_under(load, stack.process("notify", "subscriber"))
    names = rolling.judge(stack, load)

    address = f"{name}@example.com"
    until(lambda: rolling.mails_to(stack, address) >= len(names), "a mail for each report", timeout=60)
    stack.finished_all("notify", "task = notify.send_notification")
    assert rolling.mails_to(stack, address) == len(names)
    incident.delete_subscriptions(stack, name)
