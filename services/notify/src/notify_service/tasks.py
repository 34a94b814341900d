"""The tasks of notify, where gateway and worker meet."""

from __future__ import annotations

from datetime import timedelta

from chassis.errors import PermanentError
from chassis.retries import RetryPolicy
from chassis.worker import Attempt, FanOut
from waybill.notify.v1 import internal_pb2, notify_pb2

from notify_service import notifications, requests, store
from notify_service.app import app
from notify_service.dispatch import dispatch
from notify_service.templates import NotificationTemplate, RenderError
from notify_service.variables import from_struct

DELIVERY = RetryPolicy(max_attempts=8, max_backoff=timedelta(minutes=5))
_PROGRESS_EVERY = 100


@app.task(name="notify.send_notification", policy=RetryPolicy(max_attempts=5), timeout=timedelta(minutes=5))
def send_notification(
    attempt: Attempt, request: notify_pb2.SendNotificationRequest
) -> FanOut[notify_pb2.SendNotificationResponse]:
    """Render once for each recipient, and accept a delivery for each of their channels."""
    requests.check_accepted(request)
    plan = store.opened().plans.pinned(attempt.operation_id, request)
    names: list[str] = []
    try:
        template = NotificationTemplate(plan.template)
        planned = notifications.deliveries(
            attempt.operation, request, plan.recipients, template, from_struct(request.variables)
        )
        for delivery in planned:
            task = deliver_webhook if delivery.payload.channel.HasField("webhook") else deliver_email
            names.append(attempt.accept(task, delivery.payload, key=delivery.key))
            if len(names) % _PROGRESS_EVERY == 0:
                attempt.progress(0, f"{len(names)} deliveries accepted")
    except RenderError as error:
        raise PermanentError(f"template {request.template_id!r}: {error}", reason=error.reason) from error
    return FanOut(notify_pb2.SendNotificationResponse(deliveries=names), len(names))


@app.task(name="notify.deliver_email", policy=DELIVERY, timeout=timedelta(minutes=5))
def deliver_email(attempt: Attempt, request: internal_pb2.Deliver) -> notify_pb2.DeliverResponse:
    """Hand one mail over."""
    return notify_pb2.DeliverResponse(delivery=dispatch().email(attempt, request))


@app.task(name="notify.deliver_webhook", policy=DELIVERY, timeout=timedelta(minutes=2))
def deliver_webhook(attempt: Attempt, request: internal_pb2.Deliver) -> notify_pb2.DeliverResponse:
    """Post one webhook."""
    return notify_pb2.DeliverResponse(delivery=dispatch().webhook(attempt, request))
