"""Event subscriptions: what is taken, and what an event becomes as variables of a template."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from chassis.errors import Violations
from waybill.notify.v1 import notify_pb2

from notify_service.identifiers import check_id

MAX_RECIPIENTS: Final = 1_000
OWN_EVENTS: Final = "waybill.notify."
_TYPE: Final = re.compile(r"waybill(\.[a-z][a-z0-9_]{0,62}){3}")


def check(subscription: notify_pb2.EventSubscription, path: str, violations: Violations) -> None:
    """Add everything that is wrong with a subscription by itself."""
    check_id(subscription.subscription_id, f"{path}.subscription_id", violations)
    check_id(subscription.template_id, f"{path}.template_id", violations)
    event_type = subscription.event_type
    if violations.require(
        _TYPE.fullmatch(event_type), f"{path}.event_type", "expected waybill.<service>.<noun>.<past verb>"
    ):
        violations.require(
            not event_type.startswith(OWN_EVENTS),
            f"{path}.event_type",
            "is an event of this service; notifying of notifications would never end",
        )
    check_recipient_ids(subscription.recipient_ids, f"{path}.recipient_ids", violations)
    count = len(subscription.recipient_ids)
    violations.require(
        1 <= count <= MAX_RECIPIENTS, f"{path}.recipient_ids", f"has {count}; expected 1 to {MAX_RECIPIENTS}"
    )


def check_recipient_ids(recipient_ids: Collection[str], path: str, violations: Violations) -> None:
    """Add a violation for each that is no id, or repeats one before it."""
    seen: dict[str, int] = {}
    for index, recipient_id in enumerate(recipient_ids):
        check_id(recipient_id, f"{path}[{index}]", violations)
        first = seen.setdefault(recipient_id, index)
        violations.require(first == index, f"{path}[{index}]", f"repeats {path}[{first}]")


def attached_report(data: Mapping[str, Any]) -> str:
    """The report that an event's data names in `report.report_id`; "" when it names none."""
    report = data.get("report")
    report_id = report.get("report_id") if isinstance(report, Mapping) else None
    return report_id if isinstance(report_id, str) else ""
