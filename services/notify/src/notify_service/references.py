"""What a request names and is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chassis.errors import NotFound

_SHOWN: Final = 50


def template_not_found(template_id: str) -> NotFound:
    """Reason TEMPLATE_NOT_FOUND."""
    return NotFound(
        f"template {template_id!r} does not exist", reason="TEMPLATE_NOT_FOUND", metadata={"template_id": template_id}
    )


def recipients_not_found(recipient_ids: Sequence[str]) -> NotFound:
    """Reason RECIPIENT_NOT_FOUND; names all of them, at most 50."""
    names = ",".join(recipient_ids[:_SHOWN])
    more = f" and {len(recipient_ids) - _SHOWN} more" if len(recipient_ids) > _SHOWN else ""
    noun, verb = ("recipient", "does") if len(recipient_ids) == 1 else ("recipients", "do")
    return NotFound(
        f"{noun} {names}{more} {verb} not exist", reason="RECIPIENT_NOT_FOUND", metadata={"recipient_ids": names}
    )


def subscription_not_found(subscription_id: str) -> NotFound:
    """Reason SUBSCRIPTION_NOT_FOUND."""
    return NotFound(
        f"subscription {subscription_id!r} does not exist",
        reason="SUBSCRIPTION_NOT_FOUND",
        metadata={"subscription_id": subscription_id},
    )


def raise_if_missing(template_id: str, *, template_known: bool, missing_recipients: Sequence[str]) -> None:
    """Raise NotFound that names everything missing; the reason is that of the first."""
    errors = [] if template_known else [template_not_found(template_id)]
    errors += [recipients_not_found(missing_recipients)] if missing_recipients else []
    if errors:
        message = "; ".join(error.message for error in errors)
        metadata = {name: value for error in errors for name, value in error.metadata.items()}
        raise NotFound(message, reason=errors[0].reason, metadata=metadata)
