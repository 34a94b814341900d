import re
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from dashboard_service.audit_log import Action, AuditLog
from dashboard_service.context import KEY
from google.rpc import code_pb2
from waybill.admin.v1 import admin_pb2

from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import HOSTILE, csrf

JSON = {"Accept": "application/json"}


@pytest.fixture
def log(database_url):
    """An empty log in each kind of database."""
    opened = AuditLog(database_url, timedelta(days=30))
    yield opened
    opened.close()


@pytest.fixture
def entries(app):
    """The log of the application, newest first."""
    return lambda: [
        (each.action.principal, each.action.via, each.action.action, each.action.target, each.outcome, each.count)
        for each in app.extensions[KEY].audit.page(100)
    ]


def an_action(action="queues.pause", service="reports", target="reports.default"):
    return Action("ada", "page", action, service, target, {"why": "because"})


def test_an_entry_is_there_before_its_action_ends(log):
    """Begun first, then how it ended; nothing of it is lost."""
    entry_id = log.begin(an_action())
    (begun,) = log.page(10)
    log.finish(entry_id, "done", count=3, message="three")
    (done,) = log.page(10)

    assert (begun.outcome, begun.count, begun.action) == ("begun", None, an_action())
    assert (done.outcome, done.count, done.message) == ("done", 3, "three")


def test_entries_are_read_newest_first_by_pages_and_kinds(log):
    """A page goes on before the last id of the one before it."""
    for number in range(5):
        log.begin(an_action("queues.pause" if number % 2 else "queues.resume", target=str(number)))

    first = log.page(2)
    second = log.page(2, before=first[-1].id)
    of_a_kind = log.page(10, action="queues.resume")

    assert [each.action.target for each in (*first, *second)] == ["4", "3", "2", "1"]
    assert [each.action.target for each in of_a_kind] == ["4", "2", "0"]
    assert log.page(10, service="nobody") == []


def test_old_entries_are_not_shown_and_go(database_url):
    """What is older than what is kept is out of sight at once, and dropped by the next process that opens the log."""
    log = AuditLog(database_url, timedelta(days=30))
    log.begin(an_action(target="old"))
    with log._opened().begin() as connection:
        connection.execute(sa.text("UPDATE audit_entries SET time_us = time_us - 2678400000000"))
    log.begin(an_action(target="new"))
    seen = [each.action.target for each in log.page(10)]
    log.close()

    again = AuditLog(database_url, timedelta(days=30))
    again.page(10)
    with again._opened().connect() as connection:
        left = connection.execute(sa.text("SELECT count(*) FROM audit_entries")).scalar()
    again.close()

    assert seen == ["new"]
    assert left == 1


def test_every_action_of_a_page_leaves_an_entry(fakes, browser, reports, entries):
    """Who, what, on what, and how many it touched."""
    worker = "reports@host:1"
    reports.workers[worker] = admin_pb2.Worker(name=worker, concurrency=2)
    kept = fakes.do(reports.accept, "reports.render_report")
    name = f"operations/reports/{kept.id}"
    token = {"csrf_token": csrf(browser)}
    queue = "reports.default"

    browser.post(f"/queues/reports/{queue}/pause", data=token)
    browser.post(f"/queues/reports/{queue}/resume", data=token)
    browser.post(f"/{name}/cancel", data=token)
    browser.post(f"/queues/reports/{queue}/purge", data=token)
    browser.post(f"/workers/reports/{worker}/drain", data=token)
    browser.post(f"/workers/reports/{worker}/concurrency", data={**token, "concurrency": "3"})
    browser.post("/bulk", data={**token, "action": "cancel", "all": "1", "confirmed": "1", "service": "reports"})

    assert entries() == [
        ("anonymous", "page", "operations.cancel_matching", "all", "done", 0),
        ("anonymous", "page", "workers.set_concurrency", worker, "done", None),
        ("anonymous", "page", "workers.drain", worker, "done", None),
        ("anonymous", "page", "queues.purge", queue, "done", 0),
        ("anonymous", "page", "operations.cancel", name, "done", None),
        ("anonymous", "page", "queues.resume", queue, "done", None),
        ("anonymous", "page", "queues.pause", queue, "done", None),
    ]


def test_what_is_refused_leaves_an_entry_too(browser, entries):
    """With the reason that the service gave."""
    token = {"csrf_token": csrf(browser)}

    browser.post("/workers/reports/nobody/drain", data=token)

    assert entries() == [("anonymous", "page", "workers.drain", "nobody", "refused", None)]
    assert "WORKER_NOT_FOUND" in browser.get("/audit").text


def test_work_over_http_leaves_entries(browser, entries):
    """Accepted and refused alike, with the operation that it became."""
    accepted = browser.post("/api/v1/reports/render-report", json={"title": "x"}).json
    browser.post("/api/v1/reports/render-report", json={"title": "fail INVALID_ARGUMENT"})

    assert entries() == [
        ("anonymous", "api", "operations.submit", "RenderReport", "refused", None),
        ("anonymous", "api", "operations.submit", "RenderReport", "done", None),
    ]
    assert accepted["name"] in browser.get("/audit?action=operations.submit").text


def test_a_proxy_that_is_believed_says_who(app, settings, entries):
    """The header counts where it is set, and nowhere else."""
    browser = app.test_client()
    token, named = {"csrf_token": csrf(browser)}, {"X-Forwarded-User": "ada@example.com"}
    browser.post("/queues/reports/reports.default/pause", data=token, headers=named)
    given = settings.model_copy(update={"principal_header": "X-Forwarded-User"})
    app.extensions[KEY] = replace(app.extensions[KEY], settings=given)

    browser.post("/queues/reports/reports.default/pause", data=token, headers=named)
    browser.post("/queues/reports/reports.default/pause", data=token)

    assert [who for who, *_ in entries()] == ["anonymous", "ada@example.com", "anonymous"]


def test_nothing_is_done_that_can_not_be_written_down(app, browser, reports, tmp_path):
    """Where the log can not be written, the action is refused and the service is not asked."""
    token = {"csrf_token": csrf(browser)}
    (tmp_path / "file").touch()
    out_of_reach = AuditLog(f"sqlite:///{tmp_path / 'file' / 'a.db'}", timedelta(days=1))
    app.extensions[KEY] = replace(app.extensions[KEY], audit=out_of_reach)

    answer = browser.post("/queues/reports/reports.default/pause", data=token, headers=JSON)

    assert (answer.status_code, answer.json["reason"]) == (503, "AUDIT_UNAVAILABLE")
    assert reports.paused == set()


def test_the_page_shows_the_log_by_pages(app, browser):
    """All entries are reached, newest first, each once; a filter is kept from page to page."""
    audit = app.extensions[KEY].audit
    for number in range(230):
        audit.begin(an_action(target=f"q-{number}"))
    audit.begin(an_action("queues.purge"))
    path, seen = "/audit?action=queues.pause", []

    while path:
        page = browser.get(path).text
        seen += re.findall(r"<code>(q-\d+)</code>", page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following.group(1).replace("&amp;", "&") if following else ""

    assert seen == [f"q-{number}" for number in reversed(range(230))]


def test_hostile_text_is_shown_as_text(fakes, app, browser, reports):
    """Whoever names things may not run anything here."""
    app.extensions[KEY].audit.begin(Action(HOSTILE, "page", "queues.pause", HOSTILE, HOSTILE, {HOSTILE: HOSTILE}))

    page = browser.get("/audit").text

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_log_that_many_write_at_once_holds_all(fakes, browser, reports, entries):
    """Chosen operations have an entry each, also those that were refused."""
    kept = [fakes.do(reports.accept, "reports.render_report") for _ in range(3)]
    fakes.do(reports.begin, kept[0])
    fakes.do(reports.fail, kept[0], a_status(code_pb2.UNKNOWN, "no", "NO"))
    names = [f"operations/reports/{each.id}" for each in kept] + ["operations/reports/gone"]

    form = {"csrf_token": csrf(browser), "action": "discard", "operation": names, "confirmed": "1", "form_id": "x"}
    browser.post("/bulk", data=form)

    assert sorted(outcome for *_, outcome, _ in entries()) == ["done", "done", "done", "refused"]
