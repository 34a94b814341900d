"""The tasks of reports, where gateway and worker meet."""

from __future__ import annotations

from datetime import timedelta

from chassis.retries import RetryPolicy
from chassis.worker import Attempt
from waybill.reports.v1 import internal_pb2, reports_pb2

from reports_service.app import app
from reports_service.clients import incident_of
from reports_service.press import press

POLICY = RetryPolicy(max_attempts=5, max_backoff=timedelta(minutes=2))
TIMEOUT = timedelta(minutes=2)


@app.task(name="reports.render_report", policy=POLICY, timeout=TIMEOUT)
def render_report(attempt: Attempt, request: reports_pb2.RenderReportRequest) -> reports_pb2.RenderReportResponse:
    """Render what a client asked for."""
    return reports_pb2.RenderReportResponse(report=press().report(attempt, request))


@app.task(name="reports.render_incident", policy=POLICY, timeout=TIMEOUT)
def render_incident(attempt: Attempt, request: internal_pb2.RenderIncident) -> reports_pb2.RenderReportResponse:
    """Render the report of a resolved alert."""
    return reports_pb2.RenderReportResponse(report=press().incident(attempt, incident_of(request.alert)))
