"""The pages as a browser shows them: what moves, moves without a reload."""

import re
from datetime import timedelta

import pytest
from google.rpc import code_pb2
from playwright.sync_api import Route, expect
from waybill.admin.v1 import admin_pb2
from waybill.reports.v1 import reports_pb2

from services.dashboard.tests.browsing import never_reload, row, was_not_reloaded
from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import HOSTILE

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture
def reports(fakes):
    service = fakes["reports"].service
    service.workers["reports@box:7"] = admin_pb2.Worker(name="reports@box:7", concurrency=2, pool="prefork")
    return service


def test_an_operation_moves_through_its_states_without_a_reload(fakes, reports, page):
    """Accepted, running with progress, retrying with its error, succeeded: one row, in place, by push."""
    page.goto("/operations")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    never_reload(page)

    kept = fakes.do(reports.accept, "reports.render_report")
    expect(row(page, kept).locator(".state")).to_have_text("Queued")
    fakes.do(reports.begin, kept)
    fakes.do(reports.progress, kept, 42, "drawing charts")
    expect(row(page, kept).locator(".state")).to_have_text("Running")
    expect(row(page, kept)).to_contain_text("42 %")
    expect(row(page, kept)).to_contain_text("drawing charts")
    error = a_status(code_pb2.UNAVAILABLE, "metrics is gone", "UNAVAILABLE")
    fakes.do(reports.retry, kept, error, timedelta(seconds=60))
    expect(row(page, kept).locator(".state")).to_have_text("Retrying")
    expect(row(page, kept)).to_contain_text("metrics is gone")
    expect(row(page, kept)).to_contain_text("due in")
    fakes.do(reports.begin, kept)
    fakes.do(reports.succeed, kept)
    expect(row(page, kept).locator(".state")).to_have_text("Succeeded")

    expect(row(page, kept)).to_have_count(1)
    assert was_not_reloaded(page)


def test_a_table_that_is_paused_waits_and_then_catches_up(fakes, reports, page):
    """A reader who wants to look at a row is not run over."""
    page.goto("/operations")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.get_by_role("button", name="Pause").click()

    kept = fakes.do(reports.accept, "reports.render_report")
    expect(page.get_by_role("button", name="Resume (1)")).to_be_visible()
    expect(row(page, kept)).to_have_count(0)
    page.get_by_role("button", name="Resume (1)").click()

    expect(row(page, kept)).to_be_visible()


def test_rows_are_filtered_as_one_types_and_as_they_change(fakes, reports, page):
    """Text filters what is shown; a state's rows come and go with the state."""
    kept = fakes.do(reports.accept, "reports.render_report")
    other = fakes.do(fakes["metrics"].service.accept, "metrics.apply_samples")
    page.goto("/operations")
    page.keyboard.press("/")
    page.keyboard.type("render")
    expect(row(page, kept)).to_be_visible()
    expect(row(page, other)).to_be_hidden()
    expect(page).to_have_url(re.compile("text=render"))

    page.get_by_role("searchbox").fill("")
    page.get_by_text("Running", exact=True).first.click()
    expect(page).to_have_url(re.compile("state=RUNNING"))
    expect(page.locator("[data-empty]")).to_be_visible()
    fakes.do(reports.begin, kept)
    expect(row(page, kept)).to_be_visible()
    fakes.do(reports.succeed, kept)
    expect(row(page, kept)).to_be_hidden()


def test_an_operations_page_follows_it_to_its_end(fakes, reports, page):
    """Attempts, result and actions change in place; what the reader opened stays open."""
    request = reports_pb2.RenderReportRequest(title="Incident")
    kept = fakes.do(reports.accept, "reports.render_report", request)
    page.goto(f"/operations/reports/{kept.id}")
    expect(page.get_by_text("No attempt has begun.")).to_be_visible()
    never_reload(page)

    fakes.do(reports.begin, kept)
    expect(page.locator(".outcome-name")).to_have_text("Running")
    fakes.do(reports.succeed, kept, reports_pb2.RenderReportResponse(report=reports_pb2.Report(report_id="r-7")))
    expect(page.locator("h1 + .state")).to_have_text("Succeeded")
    expect(page.get_by_text("r-7")).to_be_visible()

    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert was_not_reloaded(page)


def test_a_cancellation_is_asked_for_twice_and_shown(fakes, reports, page):
    """The dialog can be left with nothing done; the toast says what was done."""
    kept = fakes.do(reports.accept, "reports.render_report")
    page.goto(f"/operations/reports/{kept.id}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep as it is").click()
    expect(page.locator("h1 + .state")).to_have_text("Queued")

    page.get_by_role("button", name="Cancel").click()
    page.locator("#confirm").get_by_role("button", name="Cancel").click()

    expect(page.get_by_text("Cancellation is requested.")).to_be_visible()
    expect(page.locator("h1 + .state")).to_have_text("Cancelled")


def test_a_page_that_lost_its_stream_goes_on_where_it_was(fakes, hub, reports, page):
    """Streams that the server ends are resumed by the browser itself: each operation is there once."""
    page.goto("/operations")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    never_reload(page)
    first = fakes.do(reports.accept, "reports.render_report")
    expect(row(page, first)).to_be_visible()

    for stream in tuple(hub._streams):
        stream.close()
    second = fakes.do(reports.accept, "reports.render_report")

    expect(row(page, second)).to_be_visible()
    expect(page.locator("tr.operation")).to_have_count(2)
    assert was_not_reloaded(page)


def test_the_overview_moves(fakes, reports, page):
    """Tiles, the latest operations and events change by themselves."""
    page.goto("/")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    kept = fakes.do(reports.accept, "reports.render_report")
    fakes.do(reports.begin, kept)
    fakes.do(fakes["metrics"].service.publish_fact, "waybill.metrics.alert.fired", "alerts/cpu-high")

    expect(row(page, kept).locator(".state")).to_have_text("Running")
    expect(page.locator("#facts")).to_contain_text("Alert fired")
    expect(page.locator(".tile", has_text="Running").locator("dd")).to_have_text("1")
    expect(page.locator("[data-rate=accepted]")).not_to_have_text("\u2013")


def test_a_dead_letter_is_replayed_from_its_page(fakes, reports, page):
    """Edit, replay, and land on the operation that replays it; the count in the navigation knows of it."""
    kept = fakes.do(reports.accept, "reports.render_report", reports_pb2.RenderReportRequest(title="before"))
    fakes.do(reports.begin, kept)
    fakes.do(reports.fail, kept, a_status(code_pb2.INVALID_ARGUMENT, "no such template", "TEMPLATE_NOT_FOUND"))
    page.goto("/dead-letters")
    expect(page.locator("[data-dead]").first).to_have_text("1")
    page.get_by_role("link", name="reports.render_report").last.click()
    field = page.get_by_label("Payload")
    field.fill(field.input_value().replace("before", "after"))

    page.get_by_role("button", name="Replay").click()

    expect(page.locator("pre").first).to_contain_text("after")
    expect(page.get_by_text("Replays", exact=True)).to_be_visible()


def test_what_is_refused_is_told_on_the_page(fakes, reports, page):
    """Every violation of an edited payload is in the toast, and the edit is still there."""
    kept = fakes.do(reports.accept, "reports.render_report", reports_pb2.RenderReportRequest(title="before"))
    fakes.do(reports.begin, kept)
    fakes.do(reports.fail, kept, a_status(code_pb2.INVALID_ARGUMENT, "no", "NO"))
    page.goto(f"/dead-letters/reports/{kept.id}")
    page.get_by_label("Payload").fill('{"titel": "x", "format": "DOCX"}')

    page.get_by_role("button", name="Replay").click()

    expect(page.get_by_role("alert")).to_contain_text("titel: unknown field")
    expect(page.get_by_role("alert")).to_contain_text("format: ")
    expect(page.get_by_label("Payload")).to_have_value('{"titel": "x", "format": "DOCX"}')


def test_hostile_text_runs_nowhere(fakes, hostile, page):
    """Markup in names, errors, payloads and events is shown as text in rendered and in live parts."""
    page.add_init_script("window.alert = (text) => { window.attacked = text }")
    for path in (
        "/operations",
        f"/operations/reports/{hostile[0].id}",
        f"/dead-letters/reports/{hostile[0].id}",
        "/workers",
        "/",
    ):
        page.goto(path)
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    fakes.do(fakes["metrics"].service.publish_fact, f"waybill.metrics.{HOSTILE}.{HOSTILE}", HOSTILE)
    fakes.do(fakes["reports"].service.progress, hostile[1], 7, HOSTILE)

    expect(page.locator("#facts")).to_contain_text("<script>")
    expect(page.locator(f'tr[data-name$="{hostile[1].id}"]')).to_contain_text("<img src=x")
    assert page.evaluate("window.attacked") is None
    assert page.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/operations", "/queues", "/workers", "/dead-letters"])
def test_no_page_is_wider_than_a_phone(chromium, address, fakes, reports, path, scheme):
    """At 390 pixels nothing has to be scrolled sideways, in either theme."""
    for _ in range(3):
        kept = fakes.do(reports.accept, "reports.render_report")
        fakes.do(reports.begin, kept)
        fakes.do(reports.fail, kept, a_status(code_pb2.UNKNOWN, "x" * 300, "A_LONG_REASON_" * 4))
    context = chromium.new_context(base_url=address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(path)
    expect(page.locator("h1")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_theme_is_kept(page):
    """The toggle wins over the preference, on the next page too."""
    page.goto("/")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.goto("/queues")

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_pages_work_by_keyboard(fakes, reports, page):
    """The first stop leads past the navigation, and focus can be seen."""
    page.goto("/queues")
    page.keyboard.press("Tab")

    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focused = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")
    assert focused == "solid"


def test_focus_stays_when_the_page_changes_around_it(fakes, reports, page):
    """From the first push of a panel on: what stays is not moved, and what is moved loses focus."""
    held: list[Route] = []

    def hold(route):
        held.append(route)

    page.route("**/live?*", hold)
    with page.expect_request("**/live?*"):
        page.goto("/queues")
    pause = page.locator('tr[data-key="reports.default"]').get_by_role("button", name="Pause")
    pause.focus()
    held[0].continue_()
    fakes.do(reports.accept, "reports.render_report")

    expect(page.locator('tr[data-key="reports.default"] .depth-number')).to_have_text("1")
    expect(pause).to_be_focused()


def test_focus_stays_when_what_stood_before_it_goes(fakes, reports, page):
    """A dead letter that is discarded leaves the focus on the next one."""
    letters = [fakes.do(reports.accept, "reports.render_report") for _ in range(2)]
    for each in letters:
        fakes.do(reports.begin, each)
        fakes.do(reports.fail, each, a_status(code_pb2.INVALID_ARGUMENT, "no such template", "TEMPLATE_NOT_FOUND"))
    page.goto("/dead-letters")
    rows = page.locator("ul.letter-list > li")
    expect(rows).to_have_count(2)
    last = rows.last.get_by_role("button", name="Replay")
    key = rows.last.get_attribute("data-key")
    last.focus()
    reports.discarded.add(letters[-1].id)
    fakes.do(reports.publish_fact, "waybill.reports.dead_letter.discarded", letters[-1].id)

    expect(rows).to_have_count(1)
    expect(page.locator(f'li[data-key="{key}"]').get_by_role("button", name="Replay")).to_be_focused()
