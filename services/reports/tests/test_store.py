"""The reports table on each kind of database: one report and one event for each operation, pages newest first."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from chassis import outbox
from chassis.database import open_database
from chassis.testing import attempt
from reports_service import store
from reports_service.store import Reports
from waybill.reports.v1 import reports_pb2

CREATED = datetime(2026, 8, 1, 14, 16, tzinfo=UTC)


@pytest.fixture
def reports(database_url):
    engine = open_database(database_url, store.metadata)
    yield Reports(engine)
    engine.dispose()


def a_report(report_id="r1", created=CREATED, **fields):
    report = reports_pb2.Report(report_id=report_id, title="Capacity", size_bytes=7, charts=2, **fields)
    report.create_time.FromDatetime(created)
    return report


def owed(reports):
    with reports.engine.connect() as connection:
        return outbox.pending(connection)


def test_a_report_is_found_as_it_was_saved(reports):
    """Every field of it."""
    report = a_report(sha256="a" * 64, location="r1/x.pdf")

    assert reports.save(attempt(effect_id="r1"), report) == report
    assert reports.find("r1") == report
    assert reports.find("r2") is None


def test_a_saved_report_owes_one_event(reports):
    """It carries the report, names the alert and continues the attempt's trace."""
    first = attempt(effect_id="r1")
    reports.save(first, a_report(), alert_id="a1")

    (event,) = owed(reports)
    completed = reports_pb2.ReportCompleted()
    assert event.data.Unpack(completed)
    assert completed == reports_pb2.ReportCompleted(report=a_report(), alert_id="a1")
    assert event.type == "waybill.reports.report.completed"
    assert event.subject == "r1"
    assert event.parent == first.traceparent


def test_two_attempts_make_one_report_and_one_event(reports):
    """The first one's, whatever the second one rendered."""
    reports.save(attempt(effect_id="r1"), a_report(location="first"))

    kept = reports.save(attempt(effect_id="r1", number=2), a_report(location="second"))

    assert kept.location == "first"
    assert len(reports.page(10)) == 1
    assert len(owed(reports)) == 1


def test_attempts_at_the_same_time_make_one_report(reports):
    """A worker that was taken for dead may still be at it."""
    kept = []
    threads = [
        threading.Thread(target=lambda n=n: kept.append(reports.save(attempt(effect_id="r1"), a_report(location=n))))
        for n in ("a", "b", "c", "d")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({report.location for report in kept}) == 1
    assert len(owed(reports)) == 1


def test_a_report_and_its_event_are_kept_together_or_not_at_all(reports):
    """A database that cannot take the event takes no report."""
    with reports.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE outbox"))

    with pytest.raises((sa.exc.OperationalError, sa.exc.ProgrammingError)):
        reports.save(attempt(effect_id="r1"), a_report())

    assert reports.find("r1") is None


def test_pages_are_newest_first_without_gap_or_repeat(reports):
    """Reports of the same instant are ordered by their id."""
    times = {f"r{i}": CREATED + timedelta(seconds=i // 3) for i in range(10)}
    for report_id, created in times.items():
        reports.save(attempt(effect_id=report_id), a_report(report_id, created))

    listed, after = [], ()
    while page := reports.page(3, after):
        listed += [report.report_id for report in page]
        after = (page[-1].create_time.ToMicroseconds(), page[-1].report_id)

    assert listed == sorted(times, key=lambda name: (times[name], name), reverse=True)


def test_a_deleted_report_is_gone(reports):
    """Deleting it again finds nothing."""
    reports.save(attempt(effect_id="r1"), a_report(location="x"))

    assert reports.delete("r1").location == "x"
    assert reports.find("r1") is None
    assert reports.delete("r1") is None


def test_expired_reports_are_forgotten(reports):
    """Only those from before."""
    reports.save(attempt(effect_id="old"), a_report("old", CREATED - timedelta(days=91)))
    reports.save(attempt(effect_id="new"), a_report("new", CREATED))

    assert reports.delete_older(CREATED - timedelta(days=90)) == 1
    assert [report.report_id for report in reports.page(10)] == ["new"]
