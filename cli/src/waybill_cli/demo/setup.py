"""What the demo sets up in notify and metrics before the incident: templates, a recipient, subscriptions, a rule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from waybill.notify.v1 import notify_pb2, notify_pb2_grpc
from waybill_client import aio

from waybill_cli.client import CALL_TIMEOUT
from waybill_cli.demo.incident import Breach

FIRED = "waybill.metrics.alert.fired"
RESOLVED = "waybill.metrics.alert.resolved"
COMPLETED = "waybill.reports.report.completed"
DELIVERED = "waybill.notify.delivery.delivered"
ADDRESS = "oncall@example.com"
WINDOW = timedelta(seconds=10)
FOR = timedelta(seconds=3)
_TIMEOUT = CALL_TIMEOUT.total_seconds()

_ALERT_TEXT = """\
{{ data.alert.display_name }} is firing.

{{ data.alert.metric }} is {{ "%.3f" | format(data.alert.value) }};
the threshold is {{ "%.3f" | format(data.alert.threshold) }}.
Fired at {{ data.alert.fire_time }}, trace {{ data.alert.trace_id }}.
"""
_REPORT_TEXT = """\
The incident is over. The report "{{ data.report.title }}" is attached: {{ data.report.filename }},
SHA-256 {{ data.report.sha256 }}.
"""


@dataclass(frozen=True, slots=True)
class Names:
    """Resource ids of one run; a suffix keeps two runs on one stack apart."""

    suffix: str

    @property
    def alert_template(self) -> str:
        return f"demo-alert-{self.suffix}"

    @property
    def report_template(self) -> str:
        return f"demo-report-{self.suffix}"

    @property
    def recipient(self) -> str:
        return f"demo-oncall-{self.suffix}"

    @property
    def rule(self) -> str:
        return f"demo-load-{self.suffix}"


async def subscribe_notify(gateway: aio.Client, names: Names) -> None:
    """Templates, a recipient with a mail address, and a mail for each of the two events."""
    notify = notify_pb2_grpc.NotifyServiceStub(gateway.channel)
    for template in (
        notify_pb2.Template(
            template_id=names.alert_template, subject="[FIRING] {{ data.alert.display_name }}", text=_ALERT_TEXT
        ),
        notify_pb2.Template(
            template_id=names.report_template, subject="Incident report: {{ data.report.title }}", text=_REPORT_TEXT
        ),
    ):
        await notify.CreateTemplate(notify_pb2.CreateTemplateRequest(template=template), timeout=_TIMEOUT)
    channel = notify_pb2.Channel(email=notify_pb2.EmailChannel(address=ADDRESS))
    recipient = notify_pb2.Recipient(recipient_id=names.recipient, display_name="On call", channels=[channel])
    await notify.CreateRecipient(notify_pb2.CreateRecipientRequest(recipient=recipient), timeout=_TIMEOUT)
    for subscription in (
        notify_pb2.EventSubscription(
            subscription_id=names.alert_template,
            event_type=FIRED,
            template_id=names.alert_template,
            recipient_ids=[names.recipient],
        ),
        notify_pb2.EventSubscription(
            subscription_id=names.report_template,
            event_type=COMPLETED,
            template_id=names.report_template,
            recipient_ids=[names.recipient],
            attach_report=True,
        ),
    ):
        request = notify_pb2.CreateEventSubscriptionRequest(subscription=subscription)
        await notify.CreateEventSubscription(request, timeout=_TIMEOUT)


async def create_rule(gateway: aio.Client, names: Names, breach: Breach) -> metrics_pb2.AlertRule:
    """The rule that the load will breach: one series, named by all its labels."""
    rule = metrics_pb2.AlertRule(
        rule_id=names.rule,
        display_name="Processor saturated" if breach.processor is not None else "Process uses too much processor time",
        metric=breach.metric,
        matchers=[
            metrics_pb2.LabelMatcher(label=label, operator=metrics_pb2.MATCH_OPERATOR_EQUAL, value=value)
            for label, value in sorted(breach.labels.items())
        ],
        aggregation=metrics_pb2.TIME_AGGREGATION_AVG,
        comparison=metrics_pb2.COMPARISON_ABOVE if breach.above else metrics_pb2.COMPARISON_BELOW,
        threshold=breach.threshold,
        annotations={
            "summary": f"The demo watches the {breach.subject}; before its load it was {breach.baseline:.1%}.",
        },
    )
    rule.window.FromTimedelta(WINDOW)
    rule.for_duration.FromTimedelta(FOR)
    metrics = metrics_pb2_grpc.MetricsServiceStub(gateway.channel)
    return await metrics.CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=rule), timeout=_TIMEOUT)


async def delete_rule(gateway: aio.Client, names: Names) -> None:
    """What the machine does after the incident is no incident."""
    metrics = metrics_pb2_grpc.MetricsServiceStub(gateway.channel)
    await metrics.DeleteAlertRule(metrics_pb2.DeleteAlertRuleRequest(rule_id=names.rule), timeout=_TIMEOUT)
