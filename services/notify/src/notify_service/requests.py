"""What the gateway takes: every violation of a request at once."""

from __future__ import annotations

from chassis.acceptance import check_options
from chassis.errors import InvalidArgument, Violations
from waybill.notify.v1 import notify_pb2

from notify_service import notifications, recipients, subscriptions, templates
from notify_service.identifiers import check_id
from notify_service.variables import from_struct

MAX_BATCH = 1_000


def check_notification(request: notify_pb2.SendNotificationRequest) -> None:
    """Raises InvalidArgument."""
    violations = Violations()
    notifications.check(request, from_struct(request.variables), violations)
    try:
        check_options(request.options, request.options.labels, request.request_id)
    except InvalidArgument as error:
        violations.found.extend(error.violations)
    violations.raise_if_any()


def check_accepted(request: notify_pb2.SendNotificationRequest) -> None:
    """Of a payload, which an operator may have edited for a replay. Raises InvalidArgument."""
    violations = Violations()
    notifications.check(request, from_struct(request.variables), violations, sealed=True)
    violations.raise_if_any()


def check_batch(request: notify_pb2.BatchSendNotificationsRequest) -> None:
    """Raises InvalidArgument for the batch as a whole; its requests are judged one by one."""
    violations = Violations()
    count = len(request.requests)
    violations.require(1 <= count <= MAX_BATCH, "requests", f"has {count}; expected 1 to {MAX_BATCH}")
    violations.raise_if_any()


def check_template(template: notify_pb2.Template, *, stored: bool = True) -> None:
    """Raises InvalidArgument, with the reason TEMPLATE_SANDBOX for a template that reaches out of the sandbox."""
    violations = Violations()
    reason = templates.check(template, "template", violations, stored=stored)
    if violations.found:
        raise InvalidArgument(violations.found, reason=reason)


def check_recipient(recipient: notify_pb2.Recipient) -> None:
    """Raises InvalidArgument."""
    violations = Violations()
    recipients.check(recipient, "recipient", violations)
    violations.raise_if_any()


def check_subscription(subscription: notify_pb2.EventSubscription) -> None:
    """Raises InvalidArgument."""
    violations = Violations()
    subscriptions.check(subscription, "subscription", violations)
    violations.raise_if_any()


def check_name(value: str, field: str) -> str:
    """The id, unless it is none: raises InvalidArgument."""
    violations = Violations()
    check_id(value, field, violations)
    violations.raise_if_any()
    return value
