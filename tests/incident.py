"""The incident pipeline on the running services: what the demo tells, as values."""

import email
import email.policy
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2
from waybill.reports.v1 import reports_pb2

from tests.source import Source
from tests.stack import NAMES, unique, until

FIRED = "waybill.metrics.alert.fired"
RESOLVED = "waybill.metrics.alert.resolved"
COMPLETED = "waybill.reports.report.completed"
DELIVERED = "waybill.notify.delivery.delivered"

ALERT_TEXT = "{{ data.alert.display_name }}: {{ data.alert.metric }} is {{ data.alert.value }}"
REPORT_TEXT = "{{ data.report.filename }} has the SHA-256 {{ data.report.sha256 }}"


@dataclass(frozen=True)
class Incident:
    """What one incident left behind."""

    fired: events_pb2.Event
    resolved: events_pb2.Event
    alert: Any
    report: Any
    #: Of the alert, then of the report.
    deliveries: list
    mails: list

    @property
    def trace_id(self):
        return self.alert.trace_id


def run(stack, once_fired=lambda: None):
    """One incident from its first sample to the mailed report; returns when every operation of it has ended.

    `once_fired` is called when the alert has fired, and nothing of what follows from it is waited for yet.
    """
    name = unique("incident")
    recipient = subscribe(stack, name)
    with ExitStack() as opened:
        alerts = opened.enter_context(stack.follow("metrics", FIRED, RESOLVED))
        reports = opened.enter_context(stack.follow("reports", COMPLETED))
        delivered = opened.enter_context(stack.follow("notify", DELIVERED))
        source = opened.enter_context(Source(stack.addresses["metrics"], name))
        stack.metrics().CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=rule(name)))

        source.load = 0.97
        fired, firing = alerts.event(metrics_pb2.AlertFired, lambda data: data.alert.rule_id == name)
        once_fired()
        source.load = 0.1
        resolved, resolving = alerts.event(metrics_pb2.AlertResolved, lambda data: data.alert.rule_id == name)
        assert resolving.alert.alert_id == firing.alert.alert_id
        completed = reports.until(reports_pb2.ReportCompleted, lambda data: data.alert_id == resolving.alert.alert_id)
        deliveries = [
            delivered.until(notify_pb2.DeliveryDelivered, partial(_is_about, recipient, subject)).delivery
            for subject in ("[FIRING] Shop overloaded", f"Incident report: {completed.report.title}")
        ]
    for service in NAMES:
        stack.finished_all(service, f"trace_id = {resolving.alert.trace_id}")
    return Incident(
        fired, resolved, resolving.alert, completed.report, deliveries, [mail_of(stack, each) for each in deliveries]
    )


def _is_about(recipient, subject, data):
    """Other tests' reports are mailed to the same people."""
    return (data.delivery.recipient_id, data.delivery.subject) == (recipient, subject)


def rule(name):
    """Fires when the source's load has been above 0.9 for a second."""
    made = metrics_pb2.AlertRule(
        rule_id=name,
        display_name="Shop overloaded",
        metric="shop.load",
        matchers=[metrics_pb2.LabelMatcher(label="service.name", value=name)],
        aggregation=metrics_pb2.TIME_AGGREGATION_LAST,
        comparison=metrics_pb2.COMPARISON_ABOVE,
        threshold=0.9,
        labels={"team": "shop"},
        annotations={"summary": "The shop serves more than it can"},
    )
    made.for_duration.FromSeconds(1)
    return made


def subscribe(stack, name):
    """A recipient who is mailed the alert and the report; its id. Returns once notify follows both services."""
    notify = stack.notify()
    channel = notify_pb2.Channel(email=notify_pb2.EmailChannel(address=f"{name}@example.com"))
    recipient = notify_pb2.Recipient(recipient_id=name, display_name="On call", channels=[channel])
    notify.CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=recipient))
    for kind, event_type, subject, text in (
        ("alert", FIRED, "[FIRING] {{ data.alert.display_name }}", ALERT_TEXT),
        ("report", COMPLETED, "Incident report: {{ data.report.title }}", REPORT_TEXT),
    ):
        template = notify_pb2.Template(template_id=f"{name}-{kind}", subject=subject, text=text)
        notify.CreateTemplate(notify_pb2.CreateTemplateRequest(template=template))
        subscription = notify_pb2.EventSubscription(
            subscription_id=f"{name}-{kind}",
            event_type=event_type,
            template_id=template.template_id,
            recipient_ids=[name],
            attach_report=kind == "report",
        )
        notify.CreateEventSubscription(notify_pb2.CreateEventSubscriptionRequest(subscription=subscription))
    wait_until_followed(stack, "metrics", "reports")
    return name


def unsubscribe(stack, name):
    """Take the subscriptions and the rule away: later events are another test's."""
    delete_subscriptions(stack, f"{name}-alert", f"{name}-report")
    stack.metrics().DeleteAlertRule(metrics_pb2.DeleteAlertRuleRequest(rule_id=name))


def delete_subscriptions(stack, *names):
    """Until notify's subscriber has left the publishers that nobody wants any more: it forgets where it was."""
    for name in names:
        request = notify_pb2.DeleteEventSubscriptionRequest(subscription_id=name)
        stack.notify().DeleteEventSubscription(request)
    left = stack.notify().ListEventSubscriptions(notify_pb2.ListEventSubscriptionsRequest(page_size=1_000))
    wanted = {each.event_type.split(".")[1].encode() for each in left.subscriptions}
    until(lambda: set(_cursors(stack)) <= wanted, "notify leaves whom nobody wants")


def wait_until_followed(stack, *publishers):
    """Until notify's subscriber has a cursor in the events of each: from there on it misses none."""
    wanted = {publisher.encode() for publisher in publishers}
    until(lambda: wanted <= set(_cursors(stack)), f"notify follows {', '.join(publishers)}")


def _cursors(stack):
    store = stack.store("notify")
    return store.client.hgetall(store.keys.named("subscriber:subscriptions"))


def mail_of(stack, delivery):
    """The mail that a delivery's receipt points at."""
    content = (stack.maildir / delivery.receipt).read_bytes()
    return email.message_from_bytes(content, policy=email.policy.default)
