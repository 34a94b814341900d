"""The gRPC door of notify."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
from chassis import paging
from chassis.errors import WaybillError
from chassis.operations import Operations, Submission
from chassis.rpc import Gateway
from chassis.statuses import to_status
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.rpc import status_pb2
from waybill.notify.v1 import notify_pb2, notify_pb2_grpc

from notify_service import requests, tasks
from notify_service.app import app
from notify_service.references import raise_if_missing
from notify_service.settings import NotifySettings
from notify_service.store import Store, open_store
from notify_service.templates import NotificationTemplate, RenderError, invalid
from notify_service.variables import from_struct

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
T_co = TypeVar("T_co", covariant=True)

#: Whom a preview is rendered for, unless its variables say otherwise.
PREVIEWED = {"recipient_id": "preview", "display_name": "Preview"}


class Lister(Protocol[T_co]):
    """A page of resources, by id."""

    def __call__(self, size: int, after: Sequence[Any] = ()) -> Sequence[T_co]: ...


class NotifyServicer(notify_pb2_grpc.NotifyServiceServicer):
    """Notifications, and what they are made of."""

    def __init__(self, operations: Operations, store: Store) -> None:
        self.operations = operations
        self.store = store

    async def SendNotification(
        self, request: notify_pb2.SendNotificationRequest, _context: Context
    ) -> operations_pb2.Operation:
        (judged,) = await asyncio.to_thread(self._judged, [request])
        if isinstance(judged, WaybillError):
            raise judged
        return await self.operations.accept(tasks.send_notification, judged)

    async def BatchSendNotifications(
        self, request: notify_pb2.BatchSendNotificationsRequest, _context: Context
    ) -> notify_pb2.BatchSendNotificationsResponse:
        requests.check_batch(request)
        judged = await asyncio.to_thread(self._judged, request.requests)
        sound = [item for item in judged if not isinstance(item, WaybillError)]
        submissions = [Submission(tasks.send_notification, item) for item in sound]
        accepted = iter(await self.operations.accept_many(submissions))
        answers = [
            to_status(item, app.service) if isinstance(item, WaybillError) else next(accepted) for item in judged
        ]
        return notify_pb2.BatchSendNotificationsResponse(items=map(_item, answers))

    async def CreateTemplate(self, request: notify_pb2.CreateTemplateRequest, _context: Context) -> notify_pb2.Template:
        await asyncio.to_thread(requests.check_template, request.template)
        return await asyncio.to_thread(self.store.templates.create, request.template)

    async def GetTemplate(self, request: notify_pb2.GetTemplateRequest, _context: Context) -> notify_pb2.Template:
        template_id = requests.check_name(request.template_id, "template_id")
        return await asyncio.to_thread(self.store.templates.get, template_id)

    async def ListTemplates(
        self, request: notify_pb2.ListTemplatesRequest, _context: Context
    ) -> notify_pb2.ListTemplatesResponse:
        listed, more = await _listed(request, self.store.templates.page)
        token = paging.encode((listed[-1].template_id,) if more else ())
        return notify_pb2.ListTemplatesResponse(templates=listed, next_page_token=token)

    async def UpdateTemplate(self, request: notify_pb2.UpdateTemplateRequest, _context: Context) -> notify_pb2.Template:
        await asyncio.to_thread(requests.check_template, request.template)
        return await asyncio.to_thread(self.store.templates.update, request.template)

    async def DeleteTemplate(self, request: notify_pb2.DeleteTemplateRequest, _context: Context) -> Empty:
        template_id = requests.check_name(request.template_id, "template_id")
        await asyncio.to_thread(self.store.templates.delete, template_id)
        return Empty()

    async def PreviewTemplate(
        self, request: notify_pb2.PreviewTemplateRequest, _context: Context
    ) -> notify_pb2.PreviewTemplateResponse:
        return await asyncio.to_thread(self._previewed, request)

    async def CreateRecipient(
        self, request: notify_pb2.CreateRecipientRequest, _context: Context
    ) -> notify_pb2.Recipient:
        requests.check_recipient(request.recipient)
        return await asyncio.to_thread(self.store.recipients.create, request.recipient)

    async def GetRecipient(self, request: notify_pb2.GetRecipientRequest, _context: Context) -> notify_pb2.Recipient:
        recipient_id = requests.check_name(request.recipient_id, "recipient_id")
        return await asyncio.to_thread(self.store.recipients.get, recipient_id)

    async def ListRecipients(
        self, request: notify_pb2.ListRecipientsRequest, _context: Context
    ) -> notify_pb2.ListRecipientsResponse:
        listed, more = await _listed(request, self.store.recipients.page)
        token = paging.encode((listed[-1].recipient_id,) if more else ())
        return notify_pb2.ListRecipientsResponse(recipients=listed, next_page_token=token)

    async def UpdateRecipient(
        self, request: notify_pb2.UpdateRecipientRequest, _context: Context
    ) -> notify_pb2.Recipient:
        completed = await asyncio.to_thread(self.store.recipients.completed, request.recipient)
        requests.check_recipient(completed)
        return await asyncio.to_thread(self.store.recipients.update, completed)

    async def DeleteRecipient(self, request: notify_pb2.DeleteRecipientRequest, _context: Context) -> Empty:
        recipient_id = requests.check_name(request.recipient_id, "recipient_id")
        await asyncio.to_thread(self.store.recipients.delete, recipient_id)
        return Empty()

    async def CreateEventSubscription(
        self, request: notify_pb2.CreateEventSubscriptionRequest, _context: Context
    ) -> notify_pb2.EventSubscription:
        requests.check_subscription(request.subscription)
        return await asyncio.to_thread(self.store.subscriptions.create, request.subscription)

    async def GetEventSubscription(
        self, request: notify_pb2.GetEventSubscriptionRequest, _context: Context
    ) -> notify_pb2.EventSubscription:
        subscription_id = requests.check_name(request.subscription_id, "subscription_id")
        return await asyncio.to_thread(self.store.subscriptions.get, subscription_id)

    async def ListEventSubscriptions(
        self, request: notify_pb2.ListEventSubscriptionsRequest, _context: Context
    ) -> notify_pb2.ListEventSubscriptionsResponse:
        listed, more = await _listed(request, self.store.subscriptions.page)
        token = paging.encode((listed[-1].subscription_id,) if more else ())
        return notify_pb2.ListEventSubscriptionsResponse(subscriptions=listed, next_page_token=token)

    async def UpdateEventSubscription(
        self, request: notify_pb2.UpdateEventSubscriptionRequest, _context: Context
    ) -> notify_pb2.EventSubscription:
        requests.check_subscription(request.subscription)
        return await asyncio.to_thread(self.store.subscriptions.update, request.subscription)

    async def DeleteEventSubscription(
        self, request: notify_pb2.DeleteEventSubscriptionRequest, _context: Context
    ) -> Empty:
        subscription_id = requests.check_name(request.subscription_id, "subscription_id")
        await asyncio.to_thread(self.store.subscriptions.delete, subscription_id)
        return Empty()

    async def ListDeliveries(
        self, request: notify_pb2.ListDeliveriesRequest, _context: Context
    ) -> notify_pb2.ListDeliveriesResponse:
        page = paging.page(request, int, str)
        found = await asyncio.to_thread(
            self.store.deliveries.page,
            page.size + 1,
            page.after,
            notification=request.notification,
            recipient_id=request.recipient_id,
        )
        listed = found[: page.size]
        token = paging.encode(listed[-1][0] if len(found) > page.size else ())
        return notify_pb2.ListDeliveriesResponse(deliveries=[delivery for _, delivery in listed], next_page_token=token)

    def _judged(
        self, items: Sequence[notify_pb2.SendNotificationRequest]
    ) -> list[notify_pb2.SendNotificationRequest | WaybillError]:
        """Each request as it is kept, its secrets apart, or why it is refused; two queries for all of them."""
        templates = self.store.templates.existing({item.template_id for item in items})
        missing = set(self.store.recipients.missing(sorted({name for item in items for name in item.recipient_ids})))

        def judge(item: notify_pb2.SendNotificationRequest) -> notify_pb2.SendNotificationRequest | WaybillError:
            try:
                requests.check_notification(item)
                raise_if_missing(
                    item.template_id,
                    template_known=item.template_id in templates,
                    missing_recipients=[name for name in item.recipient_ids if name in missing],
                )
                return self.store.secrets.sealed(item)
            except WaybillError as error:
                return error

        return [judge(item) for item in items]

    def _previewed(self, request: notify_pb2.PreviewTemplateRequest) -> notify_pb2.PreviewTemplateResponse:
        template = self._preview_source(request)
        try:
            variables = {"recipient": PREVIEWED, **from_struct(request.variables)}
            rendered = NotificationTemplate(template).render(variables)
        except RenderError as error:
            raise invalid(error, "template") from error
        return notify_pb2.PreviewTemplateResponse(subject=rendered.subject, text=rendered.text, html=rendered.html)

    def _preview_source(self, request: notify_pb2.PreviewTemplateRequest) -> notify_pb2.Template:
        if request.HasField("template"):
            requests.check_template(request.template, stored=False)
            return request.template
        return self.store.templates.get(requests.check_name(request.template_id, "template_id"))


async def _listed(request: paging.PagedRequest, list_page: Lister[T_co]) -> tuple[Sequence[T_co], bool]:
    """A page, and whether there is another after it."""
    page = paging.page(request, str)
    found = await asyncio.to_thread(list_page, page.size + 1, page.after)
    return found[: page.size], len(found) > page.size


def _item(answer: operations_pb2.Operation | status_pb2.Status) -> notify_pb2.BatchSendNotificationsResponse.Item:
    if isinstance(answer, status_pb2.Status):
        return notify_pb2.BatchSendNotificationsResponse.Item(error=answer)
    return notify_pb2.BatchSendNotificationsResponse.Item(operation=answer)


def serve(settings: NotifySettings) -> int:
    """Serve until told to end."""
    gateway = Gateway(app, settings)
    servicer = NotifyServicer(gateway.operations, open_store(settings))
    gateway.add(notify_pb2_grpc.add_NotifyServiceServicer_to_server, servicer)
    return gateway.run()
