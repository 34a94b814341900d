"""Follows the events that subscriptions name: each becomes a notification for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from chassis.acceptance import Submission
from chassis.logging import get_logger
from chassis.subscriber import Subscriber
from waybill.events.v1 import events_pb2
from waybill.notify.v1 import notify_pb2

from notify_service import clients, subscriptions, tasks
from notify_service.app import app
from notify_service.settings import NotifySettings
from notify_service.store import Store, open_store

log = get_logger()


class Handler:
    """What an event asks of this service, by the subscriptions of the moment."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, event: events_pb2.Event) -> Sequence[Submission]:
        wanting = await asyncio.to_thread(self._store.subscriptions.wanting, event.type)
        return submissions(event, wanting)


def submissions(event: events_pb2.Event, wanting: Sequence[notify_pb2.EventSubscription]) -> list[Submission]:
    """A notification for each subscription, under its id: an event that arrives twice is one effect."""
    data = clients.data_of(event)
    if data is None:
        log.warning("subscriber.data_unknown", event_id=event.id, type=event.type, data_type=event.data.TypeName())
    return [
        Submission(
            tasks.send_notification,
            _request(event, data or {}, subscription),
            request_id=subscription.subscription_id,
        )
        for subscription in wanting
    ]


def serve(settings: NotifySettings) -> int:
    """Run until told to end."""
    store = open_store(settings)
    subscriber = Subscriber(
        app, settings, name="subscriptions", types=store.subscriptions.wanted_types, handler=Handler(store)
    )
    return subscriber.run()


def _request(
    event: events_pb2.Event, data: dict[str, Any], subscription: notify_pb2.EventSubscription
) -> notify_pb2.SendNotificationRequest:
    request = notify_pb2.SendNotificationRequest(
        template_id=subscription.template_id, recipient_ids=subscription.recipient_ids
    )
    attributes = {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "time": event.time.ToJsonString(),
    }
    request.variables.update({"event": attributes, "data": data})
    if subscription.attach_report:
        _attach_report(request, event, data)
    return request


def _attach_report(request: notify_pb2.SendNotificationRequest, event: events_pb2.Event, data: dict[str, Any]) -> None:
    report_id = subscriptions.attached_report(data)
    if report_id:
        request.attachments.add(report_id=report_id)
    else:
        log.warning("subscriber.report_missing", event_id=event.id, type=event.type)
