"""The entry of one action, from before it begins until it has ended, in whatever thread it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from chassis import logging
from chassis.errors import WaybillError
from sqlalchemy.exc import SQLAlchemyError

from dashboard_service.audit_log import AuditLog, Outcome
from dashboard_service.problems import Problem, of_call, of_error

log = logging.get_logger()


class Record:
    """What the action says of itself is written when it has ended."""

    def __init__(self, audit: AuditLog, entry_id: int) -> None:
        # How many it has touched, where that is known.
        self.count: int | None = None
        self.message = ""
        self._audit = audit
        self._id = entry_id

    def done(self) -> None:
        self._finish("done", message=self.message)

    def refused(self, problem: Problem) -> None:
        self._finish("refused", problem.reason or problem.code, problem.detail)

    def _finish(self, outcome: Outcome, reason: str = "", message: str = "") -> None:
        try:
            self._audit.finish(self._id, outcome, self.count, reason, message)
        except (SQLAlchemyError, OSError) as error:
            log.warning("audit.not_finished", entry=self._id, outcome=outcome, error=str(error))


@contextmanager
def settled(record: Record) -> Iterator[None]:
    """Write how the block has ended."""
    try:
        yield
    except grpc.RpcError as error:
        record.refused(of_call(error))
        raise
    except WaybillError as error:
        record.refused(of_error(error))
        raise
    record.done()
