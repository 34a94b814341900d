"""The reports table, and the events that a new report owes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from chassis import history, outbox
from chassis.database import insert_ignore, open_database
from chassis.lineages import declare
from chassis.outbox import OwingAttempt
from chassis.settings import load
from waybill.reports.v1 import reports_pb2

from reports_service.settings import ReportsSettings

COMPLETED = "waybill.reports.report.completed"

metadata = sa.MetaData()
history.tables(metadata)
outbox.table(metadata)
declare(metadata, "reports", Path(__file__).with_name("revisions"))
_REPORTS = sa.Table(
    "reports",
    metadata,
    sa.Column("report_id", sa.String(36), primary_key=True),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    # The alert it is about; empty for none.
    sa.Column("alert_id", sa.String(36), nullable=False),
    # A serialized waybill.reports.v1.Report.
    sa.Column("report", sa.LargeBinary, nullable=False),
    sa.Index("reports_by_time", "create_time_us", "report_id"),
)


class Reports:
    """Rendered reports, each under the id that its operation's effects are keyed by."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def save(self, attempt: OwingAttempt, report: reports_pb2.Report, *, alert_id: str = "") -> reports_pb2.Report:
        """Keep a report and owe its event, in one transaction; returns the report that is kept.

        That is an earlier attempt's where there is one: two attempts make one report and one event.
        """
        row = {
            "report_id": report.report_id,
            "create_time_us": report.create_time.ToMicroseconds(),
            "alert_id": alert_id,
            "report": report.SerializeToString(deterministic=True),
        }
        with self.engine.begin() as connection:
            connection.execute(insert_ignore(_REPORTS, row, ["report_id"]))
            kept = _find(connection, report.report_id) or report
            completed = reports_pb2.ReportCompleted(report=kept, alert_id=alert_id)
            outbox.owe(connection, attempt, key="completed", type=COMPLETED, subject=kept.report_id, data=completed)
        return kept

    def find(self, report_id: str) -> reports_pb2.Report | None:
        """The report of that id."""
        with self.engine.connect() as connection:
            return _find(connection, report_id)

    def page(self, size: int, after: Sequence[int | str] = ()) -> list[reports_pb2.Report]:
        """At most `size` reports, newest first; `after` is (creation in microseconds, report id) of the one before."""
        rows = sa.select(_REPORTS.c.report).order_by(_REPORTS.c.create_time_us.desc(), _REPORTS.c.report_id.desc())
        if after:
            rows = rows.where(sa.tuple_(_REPORTS.c.create_time_us, _REPORTS.c.report_id) < sa.tuple_(*after))
        with self.engine.connect() as connection:
            return [reports_pb2.Report.FromString(stored) for stored in connection.scalars(rows.limit(size))]

    def delete(self, report_id: str) -> reports_pb2.Report | None:
        """Forget a report; returns what it was."""
        with self.engine.begin() as connection:
            report = _find(connection, report_id)
            connection.execute(sa.delete(_REPORTS).where(_REPORTS.c.report_id == report_id))
        return report

    def delete_older(self, before: datetime) -> int:
        """Forget what was created before that; returns how many."""
        before_us = int(before.timestamp() * 1_000_000)
        with self.engine.begin() as connection:
            return connection.execute(sa.delete(_REPORTS).where(_REPORTS.c.create_time_us < before_us)).rowcount


@cache
def reports() -> Reports:
    """This process's connection to the service's database, opened at first use."""
    return Reports(open_database(load(ReportsSettings).database, metadata))


def _find(connection: sa.Connection, report_id: str) -> reports_pb2.Report | None:
    stored = connection.scalar(sa.select(_REPORTS.c.report).where(_REPORTS.c.report_id == report_id))
    return None if stored is None else reports_pb2.Report.FromString(stored)
