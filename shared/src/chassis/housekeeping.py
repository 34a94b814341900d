"""What gateways and workers say of the house that they keep."""

from __future__ import annotations

from chassis.logging import get_logger
from chassis.store_calls import Housekeeping

log = get_logger(__name__)


def report(done: Housekeeping | None) -> None:
    """Log what had lost its worker or its place; None, and what is done every second, is nothing to speak of."""
    if done is not None and (done.rescued or done.reconciled or done.leases_granted):
        log.warning(
            "housekeeping.rescued",
            rescued=done.rescued,
            reconciled=done.reconciled,
            leases_granted=done.leases_granted,
        )
