"""Every action of a page or of the API leaves an entry in the audit log, whatever becomes of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chassis import logging
from chassis.errors import Unavailable
from flask import request
from sqlalchemy.exc import SQLAlchemyError

from dashboard_service.audit_log import Action
from dashboard_service.audit_records import Record, settled
from dashboard_service.context import current
from dashboard_service.login import principal
from dashboard_service.security import API_PREFIX

log = logging.get_logger()


def begun(action: str, service: str, target: str, **detail: Any) -> Record:
    """Write the entry of an action that is about to begin; `settled` ends it.

    Raises Unavailable where the log can not be written: then nothing may be done.
    """
    audit = current().audit
    via = "api" if request.path.startswith(API_PREFIX) else "page"
    try:
        entry_id = audit.begin(Action(principal(), via, action, service, target, detail))
    except (SQLAlchemyError, OSError) as error:
        log.warning("audit.not_begun", action=action, error=str(error))
        raise Unavailable(
            "the audit log can not be written, so nothing was done", reason="AUDIT_UNAVAILABLE", domain="dashboard"
        ) from error
    return Record(audit, entry_id)


@contextmanager
def audited(action: str, service: str, target: str, **detail: Any) -> Iterator[Record]:
    """Run the block as this action of whoever asks; raises as `begun` does."""
    record = begun(action, service, target, **detail)
    with settled(record):
        yield record
