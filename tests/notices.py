"""Notifications for tests: what is sent, to whom, and the deliveries that become of it."""

import grpc
from google.protobuf.struct_pb2 import Struct
from waybill.events.v1 import events_pb2
from waybill.notify.v1 import notify_pb2

from tests.stack import unique

TEMPLATE = "notice"


def ensure_template(stack):
    """The template `notice`, which has one variable, `what`."""
    template = notify_pb2.Template(template_id=TEMPLATE, subject="About {{ what }}", text="This is about {{ what }}.")
    try:
        stack.notify().CreateTemplate(notify_pb2.CreateTemplateRequest(template=template))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise


def request(*channels, what="webhooks", **fields):
    """A notification for one recipient, given in place, with these channels."""
    variables = Struct()
    variables.update({"what": what})
    recipient = notify_pb2.Recipient(recipient_id=unique("person"), channels=channels)
    return notify_pb2.SendNotificationRequest(
        template_id=TEMPLATE, variables=variables, recipients=[recipient], **fields
    )


def email(address="somebody@example.com"):
    return notify_pb2.Channel(email=notify_pb2.EmailChannel(address=address))


def webhook(url):
    """A channel whose secret nobody checks."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    return notify_pb2.Channel(webhook=notify_pb2.WebhookChannel(url=url, secret=secret))


def send(stack, *channels, **fields):
    """The names of the notification's operation and, in the order of the channels, of its deliveries."""
    with stack.follow("notify", "waybill.notify.operation.accepted") as accepted:
        notification = stack.notify().SendNotification(request(*channels, **fields)).name
        deliveries = [
            accepted.until(events_pb2.OperationChanged, lambda change: change.parent == notification).operation
            for _ in channels
        ]
    return notification, deliveries
