"""The tasks as an attempt runs them: real metrics contract, real SQLite, real files."""

import hashlib
import io
from datetime import UTC, datetime, timedelta

import grpc
import pypdf
import pytest
from chassis import channels, outbox
from chassis.errors import Cancelled, PermanentError
from chassis.statuses import task_failure
from chassis.testing import attempt
from reports_service import press, store, tasks
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from waybill.reports.v1 import internal_pb2, reports_pb2

CPU = "system.cpu.utilization"
SOURCE = {"service.name": "demo", "host.name": "web-1"}


@pytest.fixture
def service(metrics, tmp_path, monkeypatch):
    """The service's own composition, on a state directory of its own and the fake metrics service."""
    monkeypatch.setenv("WAYBILL_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("WAYBILL_ROUTES", f"metrics={metrics.address}")
    caches = (press.press, store.reports, channels._channels)
    for cached in caches:
        cached.cache_clear()
    yield press.press()
    store.reports().engine.dispose()
    for cached in caches:
        cached.cache_clear()


def a_request(now, *metric_names, **fields):
    request = reports_pb2.RenderReportRequest(template_id="standard", title="Capacity", **fields)
    request.start_time.FromDatetime(now - timedelta(minutes=30))
    request.end_time.FromDatetime(now)
    for name in metric_names:
        request.sections.add().chart.metric = name
    return request


def an_alert(now, labels=SOURCE, metric=CPU, minutes=10):
    alert = metrics_pb2.Alert(
        alert_id="01989f6e-7f3a-7c11-9b1e-3c5d8a2f4e10",
        rule_id="cpu-high",
        display_name="High CPU",
        metric=metric,
        labels=labels,
        comparison=metrics_pb2.COMPARISON_ABOVE,
        threshold=0.8,
        worst_value=0.9,
    )
    alert.breach_time.FromDatetime(now - timedelta(minutes=minutes))
    alert.fire_time.FromDatetime(now - timedelta(minutes=minutes - 1))
    alert.resolve_time.FromDatetime(now)
    return internal_pb2.RenderIncident(alert=alert)


def file_of(service, report):
    return (service.artifacts.folder / report.location).read_bytes()


def text_of(service, report):
    reader = pypdf.PdfReader(io.BytesIO(file_of(service, report)))
    return " ".join(page.extract_text() for page in reader.pages).replace("\u00a0", " ")


def owed(service):
    with service.reports.engine.connect() as connection:
        return outbox.pending(connection)


def test_a_report_is_rendered_saved_and_told(service, metrics, now):
    """The answer names the file, the file is what it says, the row is there, the event is owed."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))
    metrics.add("system.memory.utilization", SOURCE, begin=now - timedelta(minutes=30))
    first = attempt(service="reports")

    report = tasks.render_report.run(first, a_request(now, CPU, "system.memory.utilization")).report

    content = file_of(service, report)
    assert report.report_id == first.effect_id
    assert report.operation == f"operations/reports/{first.operation_id}"
    assert (report.title, report.template_id, report.charts) == ("Capacity", "standard", 2)
    assert (report.media_type, report.format) == ("application/pdf", reports_pb2.REPORT_FORMAT_PDF)
    assert report.filename.startswith("capacity-")
    assert (report.size_bytes, report.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert content.startswith(b"%PDF-")
    assert service.reports.find(report.report_id) == report
    assert [(event.type, event.subject) for event in owed(service)] == [
        ("waybill.reports.report.completed", report.report_id)
    ]


def test_progress_moves_forward_and_says_what_is_done(service, metrics, now):
    """Series by series, chart by chart, to the file; it never goes back and never claims the end."""
    for name in ("a", "b"):
        metrics.add(name, begin=now - timedelta(minutes=30))
    first = attempt()

    tasks.render_report.run(first, a_request(now, "a", "b"))

    assert first.progressed == [
        (1, "fetching 2 series"),
        (20, "fetched 1 of 2 series"),
        (40, "fetched 2 of 2 series"),
        (40, "drawing chart 1 of 2"),
        (58, "drawing chart 2 of 2"),
        (76, "typesetting"),
        (95, "saving"),
    ]


def test_a_second_attempt_makes_no_second_report(service, metrics, now):
    """Its answer is the first one's: the same id, one file, one event."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))
    first = attempt(service="reports")
    second = attempt(service="reports", operation_id=first.operation_id, number=2)

    reports = [tasks.render_report.run(each, a_request(now, CPU)).report for each in (first, second)]

    assert reports[0] == reports[1]
    assert len(owed(service)) == 1
    assert len(list(service.artifacts.folder.rglob("*.pdf"))) == 1


def test_a_replay_of_what_was_saved_makes_no_second_report(service, metrics, now):
    """An unedited replay has the original's effect id."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))
    first = attempt(service="reports")
    replay = attempt(service="reports", effect_id=first.effect_id)

    reports = [tasks.render_report.run(each, a_request(now, CPU)).report for each in (first, replay)]

    assert reports[0] == reports[1]


def test_the_file_of_an_attempt_that_came_too_late_is_removed(service, metrics, now, monkeypatch):
    """Two attempts at the same time: the first row wins, and the other's file goes."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))
    late = attempt(service="reports")
    find = service.reports.find
    monkeypatch.setattr(store.Reports, "find", lambda self, report_id: None)
    early = tasks.render_report.run(attempt(effect_id=late.effect_id), a_request(now, CPU, subtitle="early")).report

    kept = tasks.render_report.run(late, a_request(now, CPU, subtitle="late")).report

    assert kept == early == find(late.effect_id)
    assert [path.name for path in service.artifacts.folder.rglob("*.pdf")] == [early.location.split("/")[1]]


def test_an_unknown_metric_fails_for_good_with_its_name(service, now):
    """Nothing is saved."""
    with pytest.raises(PermanentError, match="never been seen") as caught:
        tasks.render_report.run(attempt(), a_request(now, "no.such.metric"))

    assert caught.value.reason == "SERIES_NOT_FOUND"
    assert "no.such.metric" in str(caught.value)
    assert service.reports.page(10) == []


def test_metrics_that_are_down_are_worth_another_attempt(service, metrics, now, monkeypatch):
    """They come back."""
    with grpc.insecure_channel("127.0.0.1:9") as nowhere:
        monkeypatch.setattr(service.metrics, "_stub", metrics_pb2_grpc.MetricsServiceStub(nowhere))

        with pytest.raises(grpc.RpcError) as caught:
            tasks.render_report.run(attempt(), a_request(now, CPU))

    assert task_failure(caught.value, "reports").transient


def test_a_report_without_a_chart_needs_no_metrics_service(service, now, monkeypatch):
    """Not even an address of one."""
    monkeypatch.setenv("WAYBILL_ROUTES", "reports=127.0.0.1:50053")

    report = tasks.render_report.run(attempt(), a_request(now, sections=[a_text()])).report

    assert report.charts == 0


def test_an_empty_window_is_a_report_that_says_so(service, metrics, now):
    """The metric is known, but not from then."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(days=2), count=3)

    report = tasks.render_report.run(attempt(), a_request(now, CPU)).report

    assert report.charts == 1
    assert "No samples between" in text_of(service, report)


def test_a_cancelled_attempt_saves_nothing(service, metrics, now):
    """It stops at the next step."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))

    with pytest.raises(Cancelled):
        tasks.render_report.run(attempt(cancelled=True), a_request(now, CPU))

    assert service.reports.page(10) == []


def test_html_is_rendered_too(service, metrics, now):
    """By the format of the request."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))

    report = tasks.render_report.run(attempt(), a_request(now, CPU, format=reports_pb2.REPORT_FORMAT_HTML)).report

    assert report.media_type == "text/html"
    assert report.filename.endswith(".html")
    assert file_of(service, report).startswith(b"<!doctype html>")


def test_what_is_past_its_retention_goes_when_a_report_is_made(service, metrics, now):
    """Row and file."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))
    old = reports_pb2.Report(report_id="old")
    old.create_time.FromDatetime(now - service.settings.retention - timedelta(days=1))
    service.reports.save(attempt(effect_id="old"), old)

    tasks.render_report.run(attempt(), a_request(now, CPU))

    assert service.reports.find("old") is None


def test_an_incident_report_shows_the_breach_and_what_lies_near(service, metrics, now):
    """The alert's series with its threshold, and related ones of the same source, none of another machine."""
    for state in ("user", "idle"):
        metrics.add(CPU, SOURCE | {"state": state}, begin=now - timedelta(minutes=30))
    metrics.add("system.memory.utilization", SOURCE, begin=now - timedelta(minutes=30))
    metrics.add("system.memory.usage", {"host.name": "other"}, begin=now - timedelta(minutes=30))
    first = attempt(service="reports")

    report = tasks.render_incident.run(first, an_alert(now, SOURCE | {"state": "user", "severity": "page"})).report

    text = text_of(service, report)
    assert (report.title, report.template_id, report.charts) == ("High CPU", "incident", 3)
    assert "Resolved" in text
    assert "threshold 80 %" in text
    assert "System memory utilization" in text
    assert {query.metric for query in metrics.queries} == {CPU, "system.memory.utilization"}
    breached = metrics.queries[[len(q.matchers) for q in metrics.queries].index(3)]
    assert {m.label: m.value for m in breached.matchers} == SOURCE | {"state": "user"}


def test_an_incident_event_names_the_alert(service, metrics, now):
    """So that who was told of the alert can be sent its report."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))

    report = tasks.render_incident.run(attempt(service="reports"), an_alert(now)).report

    (event,) = owed(service)
    completed = reports_pb2.ReportCompleted()
    event.data.Unpack(completed)
    assert completed.alert_id == "01989f6e-7f3a-7c11-9b1e-3c5d8a2f4e10"
    assert completed.report == report


def test_an_incident_report_always_has_two_charts_of_real_series(service, metrics, now):
    """With nothing else known, the extremes of the breached series itself."""
    metrics.add("queue_depth", {"queue": "a"}, begin=now - timedelta(minutes=30), unit="{message}")

    report = tasks.render_incident.run(attempt(), an_alert(now, {"queue": "a"}, "queue_depth")).report

    assert report.charts == 2
    assert {query.aggregation for query in metrics.queries} >= {
        metrics_pb2.TIME_AGGREGATION_MIN,
        metrics_pb2.TIME_AGGREGATION_MAX,
    }
    assert "extremes" in text_of(service, report)


def test_a_related_series_without_samples_makes_way_for_the_extremes(service, metrics, now):
    """A chart of nothing tells nothing."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))
    metrics.add("system.memory.utilization", SOURCE, values=[1.0], begin=now - timedelta(minutes=30))
    metrics.series[-1].points.add(value=1.0).time.FromDatetime(now + timedelta(minutes=5))

    report = tasks.render_incident.run(attempt(), an_alert(now, minutes=4)).report

    assert report.charts == 2
    assert "extremes" in text_of(service, report)


def test_an_incident_report_run_twice_is_one(service, metrics, now):
    """As any other."""
    metrics.add(CPU, SOURCE, begin=now - timedelta(minutes=30))
    first = attempt()

    reports = [
        tasks.render_incident.run(each, an_alert(now)).report for each in (first, attempt(effect_id=first.effect_id))
    ]

    assert reports[0] == reports[1]
    assert len(owed(service)) == 1


def test_a_report_is_made_at_the_time_it_says(service, metrics, now):
    """In UTC, to the second on the page."""
    before = datetime.now(UTC)
    report = tasks.render_report.run(attempt(), a_request(now, subtitle="s", sections=[a_text()])).report

    assert before <= report.create_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)


def a_text():
    return reports_pb2.Section(text=reports_pb2.TextSection(text="hello"))
