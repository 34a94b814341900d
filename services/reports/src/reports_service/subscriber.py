"""Follows other services' events: a resolved alert becomes an incident report."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.acceptance import Submission
from chassis.subscriber import Subscriber
from waybill.events.v1 import events_pb2
from waybill.reports.v1 import internal_pb2

from reports_service import tasks
from reports_service.app import app
from reports_service.clients import ALERT_RESOLVED, resolved_alert
from reports_service.settings import ReportsSettings


async def submissions(event: events_pb2.Event) -> Sequence[Submission]:
    """What an event asks of this service."""
    alert = resolved_alert(event)
    if alert is None:
        return ()
    return (Submission(tasks.render_incident, internal_pb2.RenderIncident(alert=alert)),)


def serve(settings: ReportsSettings) -> int:
    """Run until told to end."""
    subscriber = Subscriber(app, settings, name="incidents", types=lambda: {ALERT_RESOLVED}, handler=submissions)
    return subscriber.run()
