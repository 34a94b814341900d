"""The story that everything serves, on real processes: from a stock SDK's samples to a mailed report."""

import hashlib
import io

import pypdf
import pytest
from waybill.metrics.v1 import metrics_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from tests import incident
from tests.stack import NAMES, TICKING

TASKS = {
    "metrics": [TICKING],
    "notify": ["notify.deliver_email"] * 2 + ["notify.send_notification"] * 2,
    "reports": ["reports.render_incident"],
}


@pytest.fixture(scope="module")
def told(running_stack):
    """One incident, run once for the tests of this module; behind Sentinels through a failover."""
    running_stack.make_whole()
    if running_stack.client is None:
        told = incident.run(running_stack)
    else:
        told = incident.run(running_stack, once_fired=running_stack.client.begin)
        running_stack.client.wait()
    yield told
    running_stack.make_whole()
    incident.unsubscribe(running_stack, told.alert.rule_id)


def test_a_breach_fires_an_alert_and_its_end_resolves_it(stack, told):
    """One alert per breach, with the series' labels and the rule's, its worst value, and the times in order."""
    alert = told.alert

    assert alert.state == metrics_pb2.ALERT_STATE_RESOLVED
    assert (alert.metric, alert.threshold, alert.worst_value) == ("shop.load", 0.9, 0.97)
    assert {"team": "shop", "service.name": alert.rule_id}.items() <= alert.labels.items()
    times = [alert.breach_time.ToDatetime(), alert.fire_time.ToDatetime(), alert.resolve_time.ToDatetime()]
    assert times == sorted(times)
    listed = stack.metrics().ListAlerts(metrics_pb2.ListAlertsRequest(rule_id=alert.rule_id)).alerts
    assert list(listed) == [alert]


def test_the_people_on_call_are_mailed_the_alert(told):
    """The template is rendered with the event's data, and the mail lies in the Maildir."""
    mail = told.mails[0]

    assert mail["subject"] == "[FIRING] Shop overloaded"
    assert mail["to"] == f"{told.alert.rule_id}@example.com"
    assert mail["message-id"] == told.deliveries[0].message_id
    assert mail.get_body().get_content().strip() == "Shop overloaded: shop.load is 0.97"


def test_the_resolved_incident_becomes_a_report_with_charts(stack, told):
    """A PDF with at least two charts of the source's series, downloaded whole with its SHA-256."""
    report = told.report
    request = reports_pb2.DownloadReportRequest(report_id=report.report_id)
    content = b"".join(part.chunk for part in stack.reports().DownloadReport(request))
    pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages]

    assert (len(content), hashlib.sha256(content).hexdigest()) == (report.size_bytes, report.sha256)
    assert report.charts >= 2
    assert (report.template_id, report.media_type) == ("incident", "application/pdf")
    text = "\n".join(pages)
    # Titles of two charts, the axis of the one and the dashed rule of the other.
    assert {"Shop load", "Shop memory", "shop.memory, B", "threshold 0.9"} <= set(text.splitlines())
    assert told.trace_id in text


def test_the_report_is_mailed(told):
    """The mail carries the very file that can be downloaded, and its text names the same SHA-256."""
    mail = told.mails[1]
    (attached,) = mail.iter_attachments()

    assert mail["subject"] == f"Incident report: {told.report.title}"
    assert attached.get_filename() == told.report.filename
    assert attached.get_content_type() == "application/pdf"
    assert hashlib.sha256(attached.get_content()).hexdigest() == told.report.sha256
    assert told.report.sha256 in mail.get_body().get_content()


def test_all_of_it_succeeded_at_the_first_attempt_in_one_trace(stack, told):
    """The evaluation that fired, both notifications, both mails and the report belong to the incident's trace."""
    found = {service: stack.listed(service, f"trace_id = {told.trace_id}") for service in NAMES}

    assert {service: sorted(kept.task for _, kept in listed) for service, listed in found.items()} == TASKS
    for _, kept in (each for listed in found.values() for each in listed):
        assert (kept.state, kept.attempt) == (ops.OPERATION_STATE_SUCCEEDED, 1)
    events = (told.fired, told.resolved)
    assert {event.traceparent.split("-")[1] for event in events} == {told.trace_id}
