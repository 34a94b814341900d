import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest
from dashboard_service import clients, samples
from dashboard_service.context import KEY
from google.rpc import code_pb2
from waybill.admin.v1 import admin_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import csrf

PAGES = ("/", "/operations", "/queues", "/workers", "/dead-letters", "/alerts", "/audit")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_served_with_nothing_to_show(browser, path):
    """An empty installation has pages."""
    answer = browser.get(path)

    assert answer.status_code == 200
    assert "<h1>" in answer.text


@pytest.mark.parametrize("path", PAGES[:5])
def test_every_page_is_served_while_a_service_is_down(fakes, browser, path):
    """The others are shown, and the page says who is missing."""
    fakes.run(fakes["notify"].stop())

    answer = browser.get(path)

    assert answer.status_code == 200
    assert "notify" in answer.text
    assert "unreachable" in answer.text or "did not answer" in answer.text


def test_an_operations_page_shows_all_that_is_known(fakes, browser, reports):
    """State, attempts with their errors, payload, result, labels and relations."""
    gone = a_status(code_pb2.UNAVAILABLE, "metrics is gone", "UNAVAILABLE")

    def make():
        kept = reports.accept(
            "reports.render_report",
            reports_pb2.RenderReportRequest(title="Incident"),
            labels={"team": "sre"},
            replayed_from="operations/reports/older",
        )
        reports.begin(kept)
        reports.retry(kept, gone, timedelta(seconds=5))
        reports.begin(kept)
        reports.succeed(kept, reports_pb2.RenderReportResponse(report=reports_pb2.Report(report_id="r-1")))
        return kept

    kept = fakes.do(make)
    page = unescape(browser.get(f"/operations/reports/{kept.id}").text)

    for shown in (
        "Succeeded",
        "Retried",
        "metrics is gone",
        '"title": "Incident"',
        '"reportId": "r-1"',
        "sre",
        "older",
    ):
        assert shown in page, shown
    assert "/cancel" not in page, "what has ended can not be cancelled"


def test_a_trace_and_jaeger_are_linked_where_they_are_configured(fakes, settings, app, reports):
    """Links lead to what is there."""
    kept = fakes.do(reports.accept, "reports.render_report")
    path = f"/operations/reports/{kept.id}"
    bare = app.test_client().get(path).text
    dashboard = app.extensions[KEY]
    given = settings.model_copy(update={"jaeger_url": "http://jaeger.example", "traces_target": "127.0.0.1:1"})
    connected = clients.connect(given)
    app.extensions[KEY] = replace(dashboard, settings=given, clients=connected)

    linked = app.test_client().get(path).text

    assert kept.metadata.trace_id in bare
    assert "/traces/" not in bare
    assert f'href="http://jaeger.example/trace/{kept.metadata.trace_id}"' in linked
    assert f'href="/traces/{kept.metadata.trace_id}"' in linked
    connected.close()


def test_older_operations_are_reached_by_pages(fakes, browser):
    """The history of all services is walked to its end, newest first, each operation once."""
    for name, task in (("metrics", "metrics.apply_samples"), ("notify", "notify.deliver_mail")):
        for _ in range(130):
            fakes.do(fakes[name].service.accept, task)
    path, seen = "/operations", []

    while path:
        page = browser.get(path).text
        seen += re.findall(r'<tr class="operation" data-key="(operations/[^"]+)"', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = unescape(following.group(1)) if following else ""

    assert len(seen) == len(set(seen)) == 260


def test_a_state_is_asked_of_the_services(fakes, browser):
    """A filter by state reaches behind the newest page."""
    service = fakes["metrics"].service
    first = fakes.do(service.accept, "metrics.apply_samples")
    fakes.do(service.begin, first)
    for _ in range(150):
        fakes.do(service.accept, "metrics.apply_samples")

    page = browser.get("/operations?state=RUNNING&service=metrics").text

    assert re.findall(r'data-name="operations/metrics/([^"]+)"', page) == [first.id]


def test_a_filter_is_asked_of_the_services_with_the_state(fakes, browser, reports):
    """The filter in the services' language and the choice of a state hold together; pages keep both."""
    wanted = [fakes.do(reports.accept, "reports.render_report", labels={"team": team}) for team in ("sre", "growth")]
    fakes.do(reports.accept, "reports.render_report", labels={"team": "billing"})
    running = fakes.do(reports.accept, "reports.render_report", labels={"team": "sre"})
    fakes.do(reports.begin, running)

    page = browser.get("/operations?state=QUEUED&filter=labels.team%3Dsre+OR+labels.team%3Dgrowth").text

    found = set(re.findall(r'data-name="operations/reports/([^"]+)"', page))
    assert found == {each.id for each in wanted}
    assert 'value="labels.team=sre OR labels.team=growth"' in page


def test_a_filter_that_is_not_understood_is_told_at_its_field(browser):
    """What the services say of it stands at the field once, and no service is said to be missing."""
    page = unescape(browser.get("/operations?filter=colour+%3D+red").text)

    field = page[page.index('id="filter-said"') :].partition("</div>")[0]
    assert "'colour' is not a field of operations" in field
    assert 'aria-invalid="true"' in page
    assert "did not answer" not in page


def test_an_operation_is_cancelled_by_a_form(fakes, browser, reports):
    """The form leads back to the operation, and says what was done."""
    kept = fakes.do(reports.accept, "reports.render_report")
    path = f"/operations/reports/{kept.id}"

    answer = browser.post(f"{path}/cancel", data={"csrf_token": csrf(browser, path)}, follow_redirects=True)

    assert kept.metadata.state == ops.OPERATION_STATE_CANCELLED
    assert "Cancellation is requested." in answer.text


def test_queues_are_paused_resumed_and_purged(fakes, browser, reports):
    """Each button reaches the service."""
    kept = fakes.do(reports.accept, "reports.render_report")
    token = {"csrf_token": csrf(browser)}

    browser.post("/queues/reports/reports.default/pause", data=token)
    assert reports.paused == {"reports.default"}
    assert "paused" in browser.get("/queues").text
    browser.post("/queues/reports/reports.default/resume", data=token)
    assert reports.paused == set()
    browser.post("/queues/reports/reports.default/purge", data=token)
    assert kept.metadata.state == ops.OPERATION_STATE_CANCELLED


def test_a_queue_says_what_is_parked_in_it(browser, reports):
    """What no worker can run is seen where the queue's other figures are, and only where there is any."""
    reports.parked["reports.default"] = 12, 1

    page = browser.get("/queues").text

    assert page.count("12 parked") == 1
    assert page.count("1 message parked") == 1
    reports.parked.clear()
    assert "parked</span>" not in browser.get("/queues").text


def test_workers_show_their_version_and_a_contract_that_is_not_the_gateways(browser, reports):
    """The hash of each, and a tag at the one that was built with another contract."""
    for number, differs in ((1, False), (2, True)):
        name = f"reports@build-{number}:{number}"
        reports.workers[name] = admin_pb2.Worker(
            name=name, version=f"1.0.{number}", contract_hash=f"c0ffee00000{number}", contract_differs=differs
        )

    page = browser.get("/workers").text

    assert all(shown in page for shown in ("1.0.1", "1.0.2", "c0ffee000001", "c0ffee000002"))
    assert page.count(">other contract<") == 1


def test_workers_are_drained(browser, reports):
    """The button reaches the service, and the page says what the worker does."""
    name = "reports@host:1"
    reports.workers[name] = admin_pb2.Worker(name=name, concurrency=2, pool="prefork")

    browser.post(f"/workers/reports/{name}/drain", data={"csrf_token": csrf(browser)})

    assert reports.workers[name].draining
    assert "draining" in browser.get("/workers").text


def test_a_worker_is_told_how_many_slots_to_have(browser, reports):
    """The number reaches the service; one beyond the contract's bounds is refused here."""
    name = "reports@host:1"
    reports.workers[name] = admin_pb2.Worker(name=name, concurrency=2, pool="prefork")
    token = {"csrf_token": csrf(browser, "/workers")}
    path = f"/workers/reports/{name}/concurrency"

    browser.post(path, data={**token, "concurrency": "7"})
    refused = browser.post(path, data={**token, "concurrency": "0"}, headers={"Accept": "application/json"})

    assert reports.workers[name].concurrency == 7
    assert [each["field"] for each in refused.json["violations"]] == ["concurrency"]


def test_a_queue_has_a_line_of_its_depth(fakes, browser, app, reports):
    """Samples become a line beside the queue, one point each."""
    hub = app.extensions[KEY].hub
    for _ in range(2):
        fakes.do(reports.accept, "reports.render_report")
        hub.depths.add(samples.take(hub.clients))

    page = browser.get("/queues").text

    assert "Depth over the last five minutes, at most 2" in page
    assert '<path d="M' in page


def test_alerts_are_shown_with_what_breached(fakes, browser):
    """Rule, metric, threshold and values of each, by state."""
    firing = metrics_pb2.Alert(
        alert_id="a-1",
        rule_id="cpu-high",
        display_name="CPU is high",
        metric="system.cpu.utilization",
        state=metrics_pb2.ALERT_STATE_FIRING,
        comparison=metrics_pb2.COMPARISON_ABOVE,
        threshold=0.8,
        value=0.93,
        labels={"host": "build-1"},
    )
    fakes["metrics"].alerts.append(firing)

    page = browser.get("/alerts").text
    other = browser.get("/alerts?state=resolved").text

    for shown in ("CPU is high", "system.cpu.utilization", "0.8", "0.93", "build-1", "firing"):
        assert shown in page, shown
    assert "CPU is high" not in other


def test_alerts_are_missing_while_metrics_is_down(fakes, browser):
    """The page says whose they are and that it did not answer."""
    fakes.run(fakes["metrics"].stop())

    page = browser.get("/alerts").text

    assert "did not answer" in page


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/operations/reports/none", 404, "OPERATION_NOT_FOUND"),
        ("/operations/nobody/x", 404, "SERVICE_NOT_FOUND"),
        ("/nonsense", 404, "Not found"),
        ("/operations?page_token=abc", 400, "page_token"),
        ("/traces/xyz", 400, "32 lower-case hex digits"),
    ],
)
def test_what_is_not_there_has_a_page_that_says_so(browser, path, status, said):
    """Errors are pages with the reason, not blank screens."""
    answer = browser.get(path)

    assert answer.status_code == status
    assert said in answer.text


def test_a_method_that_is_not_implemented_yet_is_said_so(fakes, browser):
    """A gateway that lacks a method costs its part of the page only."""
    fakes.run(fakes["notify"].stop())
    fakes.run(fakes["notify"].start(fakes["notify"].target, without=("queues",)))

    page = browser.get("/queues").text

    assert "does not serve this" in page
    assert "reports.default" in page
