"""Steering in a real browser, by pointer and by keyboard."""

import re

import pytest
from google.rpc import code_pb2
from playwright.sync_api import expect
from waybill.admin.v1 import admin_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from services.dashboard.tests.browsing import never_reload, row, was_not_reloaded
from services.dashboard.tests.fake_service import a_status

NAMELESS = """() => {
  const labelled = (each) => [...(each.labels ?? [])].some((label) => label.textContent.trim());
  const named = (each) => each.ariaLabel || each.textContent.trim() || labelled(each) || each.placeholder || each.title;
  return [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, [role=img]")]
    .filter((each) => each.checkVisibility() && !named(each)).map((each) => each.outerHTML.slice(0, 120));
}"""

pytestmark = pytest.mark.needs("chromium")


def live(page, path):
    page.goto(path)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")


def fail(fakes, reports, title="before", reason="TEMPLATE_NOT_FOUND"):
    kept = fakes.do(reports.accept, "reports.render_report", reports_pb2.RenderReportRequest(title=title))
    fakes.do(reports.begin, kept)
    fakes.do(reports.fail, kept, a_status(code_pb2.INVALID_ARGUMENT, "no such template", reason))
    return kept


def test_a_filter_shows_what_matches_and_keeps_up(fakes, reports, page):
    """Asked of the services, and again as work moves; what does not match never shows."""
    first = fakes.do(reports.accept, "reports.render_report", labels={"team": "sre"})
    other = fakes.do(reports.accept, "reports.render_report", labels={"team": "growth"})
    live(page, "/operations")
    expect(row(page, other)).to_be_visible()

    page.keyboard.press("f")
    page.keyboard.type("labels.team = sre")
    page.keyboard.press("Enter")
    expect(row(page, other)).to_have_count(0)
    never_reload(page)
    page.keyboard.press("Escape")
    second = fakes.do(reports.accept, "reports.render_report", labels={"team": "sre"})
    fakes.do(reports.accept, "reports.render_report", labels={"team": "growth"})

    expect(row(page, second)).to_be_visible()
    expect(page.locator("tr.operation")).to_have_count(2)
    expect(page).to_have_url(re.compile("filter=labels.team"))
    fakes.do(reports.begin, first)
    expect(row(page, first).locator(".state")).to_have_text("Running")
    assert was_not_reloaded(page)


def test_a_wrong_filter_is_told_where_it_was_written(fakes, reports, page):
    """What was typed is still there to be mended."""
    live(page, "/operations")
    field = page.get_by_label("Filter", exact=True)
    field.fill("colour = red")
    field.press("Enter")

    expect(page.locator("#filter-said").get_by_role("alert")).to_contain_text("'colour' is not a field of operations")
    expect(field).to_have_value("colour = red")
    expect(field).to_have_attribute("aria-invalid", "true")


def test_rows_are_chosen_and_cancelled_by_keyboard(fakes, reports, page):
    """j, x, c, and a question that says how many."""
    older = fakes.do(reports.accept, "reports.render_report")
    newer = fakes.do(reports.accept, "reports.render_report")
    live(page, "/operations")

    for key in ("j", "x", "j", "x", "c"):
        page.keyboard.press(key)
    expect(page.locator("#confirm")).to_contain_text("Cancel 2 operations?")
    page.locator("#confirm").get_by_role("button", name="Cancel").click()

    for each in (older, newer):
        expect(row(page, each).locator(".state")).to_have_text("Cancelled")
    expect(page.get_by_text("2 cancelled")).to_be_visible()
    expect(page.locator("tr.is-chosen")).to_have_count(0)


def test_a_question_that_is_declined_does_nothing(fakes, reports, page):
    """All that match stay as they are."""
    kept = fakes.do(reports.accept, "reports.render_report")
    live(page, "/operations?service=reports")
    page.get_by_label("All that match").check()
    page.locator("#bulk").get_by_role("button", name="Cancel").click()

    expect(page.locator("#confirm")).to_contain_text("Cancel 1 operation of reports?")
    page.get_by_role("button", name="Keep as it is").click()

    expect(page.locator("#confirm")).to_be_hidden()
    assert kept.metadata.state == ops.OPERATION_STATE_QUEUED


def test_shortcuts_are_shown_and_lead_to_pages(page):
    """`?` opens the help, Escape closes it, `g q` leads to the queues."""
    live(page, "/")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_hidden()

    page.keyboard.press("g")
    page.keyboard.press("q")

    expect(page.get_by_role("heading", name="Queues")).to_be_visible()


def test_keys_do_nothing_while_somebody_types(fakes, reports, page):
    """A filter with a `c` in it cancels nothing."""
    live(page, "/operations")
    page.get_by_label("All that match").check()
    page.get_by_label("Filter", exact=True).type("c?gq")

    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page).to_have_url(re.compile("/operations$"))


def test_a_queue_is_paused_and_resumed(fakes, reports, page):
    """The row says so without a reload, and the service knows."""
    live(page, "/queues")
    never_reload(page)
    queue = page.locator('tr[data-key="reports.default"]')

    queue.get_by_role("button", name="Pause").click()
    expect(queue.get_by_text("paused")).to_be_visible()
    assert reports.paused == {"reports.default"}
    queue.get_by_role("button", name="Resume").click()
    expect(queue.get_by_text("paused")).to_have_count(0)

    assert reports.paused == set()
    assert was_not_reloaded(page)


def test_a_worker_is_resized_and_drained(fakes, reports, page):
    """Slots by number; a drain after a question."""
    name = "reports@box:7"
    reports.workers[name] = admin_pb2.Worker(name=name, concurrency=2, pool="threads")
    live(page, "/workers")
    worker = page.locator(f'[data-key="{name}"]')
    worker.get_by_label(f"Slots of {name}").fill("5")
    worker.get_by_role("button", name="Set").click()
    expect(worker.get_by_text("0/5")).to_be_visible()

    worker.get_by_role("button", name="Drain").click()
    page.locator("#confirm").get_by_role("button", name="Drain").click()

    expect(worker.get_by_text("draining")).to_be_visible()


def test_all_dead_letters_that_match_are_replayed_with_a_patch(fakes, reports, page):
    """Those of the filter, after a question that says how many; the log knows who did what."""
    fail(fakes, reports)
    fail(fakes, reports)
    fail(fakes, reports, reason="OTHER")
    live(page, "/dead-letters?service=reports&filter=task%20%3D%20reports.render_report")
    page.get_by_text("Change their payloads").click()
    page.get_by_label("Fields to replace").fill('{"title": "after"}')
    page.get_by_role("button", name="Replay all").click()
    expect(page.locator("#confirm")).to_contain_text("Replay 3 dead letters of reports")
    expect(page.locator("#confirm")).to_contain_text("with changed payloads")
    page.locator("#confirm").get_by_role("button", name="Replay all").click()

    expect(page.locator(".toast")).to_contain_text("3 dead letters are replayed")
    page.goto("/audit")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("dead_letters.replay_matching")
    expect(page.locator("tbody tr")).to_contain_text("done")


def test_statistics_are_drawn(fakes, reports, page):
    """Three charts with what they show in words, and the table of tasks."""
    fail(fakes, reports)
    live(page, "/")

    expect(page.locator(".stat-chart canvas")).to_have_count(3)
    expect(page.locator("#chart canvas")).to_have_count(1)
    expect(page.get_by_role("img", name="Share of operations that failed, by step")).to_have_count(1)
    expect(page.locator(".by-task tbody tr")).to_contain_text("reports.render_report")


@pytest.mark.parametrize("path", ["/", "/operations", "/queues", "/workers", "/dead-letters", "/alerts", "/audit"])
def test_everything_that_can_be_used_has_a_name(fakes, reports, page, path):
    """Links, buttons and fields say what they are to who can not see them; every picture does, too."""
    fail(fakes, reports)
    reports.workers["reports@box:7"] = admin_pb2.Worker(name="reports@box:7", concurrency=2, pool="threads")
    live(page, path)

    nameless = page.evaluate(NAMELESS)
    assert nameless == []
