"""Reports for tests."""

from datetime import UTC, datetime, timedelta

from waybill.reports.v1 import reports_pb2


def of_text(title="Status", **fields):
    """A report that needs no other service."""
    section = reports_pb2.Section(text=reports_pb2.TextSection(title="Status", text="All is well."))
    return reports_pb2.RenderReportRequest(template_id="standard", title=title, sections=[section], **fields)


def with_a_chart(metric, **fields):
    """A report with a chart of the metric's last minutes."""
    now = datetime.now(UTC)
    request = of_text(**fields)
    request.sections.add().chart.metric = metric
    request.start_time.FromDatetime(now - timedelta(minutes=5))
    request.end_time.FromDatetime(now + timedelta(seconds=1))
    return request
