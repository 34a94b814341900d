import re
from html import unescape

import pytest

from services.dashboard.tests.forms import HOSTILE, csrf

PAGES = ("/", "/operations", "/queues", "/workers", "/dead-letters")


@pytest.mark.parametrize("path", [*PAGES, "/operations/reports/{failed}", "/operations/reports/{running}"])
def test_hostile_text_is_text(browser, hostile, path):
    """Nothing that a client or a task can write becomes markup, an attribute or a template."""
    failed, running = hostile

    page = browser.get(path.format(failed=failed.id, running=running.id)).text

    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "49" not in re.findall(r"&gt;(\d+)", page)
    if path != "/queues":
        assert "&lt;script&gt;alert(1)" in page


def test_hostile_text_is_text_on_a_dead_letters_page(browser, hostile):
    """The payload stands in a field that can be edited, and ends it nowhere."""
    page = browser.get(f"/dead-letters/reports/{hostile[0].id}").text

    assert "<script>alert" not in page
    assert "</textarea><" not in re.search(r"<textarea.*?</textarea>", page, re.DOTALL).group(0)[:-12]


def test_hostile_text_in_an_address_is_text(browser):
    """What stands in the query or the path is no markup either."""
    for path in (
        f"/operations?text={HOSTILE}&service={HOSTILE}&state={HOSTILE}",
        f"/operations/{HOSTILE}/x",
        "/?notice=<b>",
    ):
        assert "<script>alert" not in browser.get(path).text


def test_hostile_events_are_text_in_the_page_and_data_in_the_stream(fakes, live, browser):
    """An event's subject is JSON in the stream: markup in it ends nothing."""
    with live("changes=all&panel=overview") as stream:
        stream.next("panel")
        stream.next("sample")
        fakes.do(fakes["metrics"].service.publish_fact, "waybill.metrics.alert.fired", f"{HOSTILE}\n\nevent: panel")
        fact = stream.next("facts").data[0]

    assert fact["subject"].startswith(HOSTILE)
    page = browser.get("/").text
    assert "<script>alert" not in page
    assert HOSTILE.split("{{", maxsplit=1)[0] in unescape(page)


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"csrf_token": ""}, {}),
        ({"csrf_token": "guessed"}, {}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null"}),
    ],
)
def test_a_form_of_another_site_changes_nothing(browser, reports, changes, headers):
    """Without the browser's own token, or from elsewhere, a form is refused."""
    form = {"csrf_token": csrf(browser), **changes}

    answer = browser.post("/queues/reports/reports.default/pause", data=form, headers=headers)

    assert answer.status_code == 403
    assert reports.paused == set()


def test_a_form_of_our_own_page_is_taken(browser, reports):
    """A browser sends the Origin of the page with each form."""
    form = {"csrf_token": csrf(browser)}

    browser.post("/queues/reports/reports.default/pause", data=form, headers={"Origin": "http://localhost"})

    assert reports.paused == {"reports.default"}


def test_a_foreign_name_is_not_answered(browser):
    """A site that points its own name at this address is told nothing; a probe by address is."""
    assert browser.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert browser.get("/healthz", headers={"Host": "10.1.2.3:8080"}).json == {"status": "serving"}


def test_pages_run_and_load_nothing_but_their_own(browser, hostile):
    """The policy forbids inline code, and no page has any or asks another host."""
    for path in (*PAGES, f"/operations/reports/{hostile[0].id}"):
        answer = browser.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=\"", answer.text)
        loaded = re.findall(r"<(?:script|link|img|use)[^>]+(?:src|href)=\"([^\"]+)", answer.text)
        assert loaded
        # A fragment is a part of the page itself: it loads nothing.
        assert all(each.startswith(("/static/", "#")) for each in loaded)


def test_the_cookie_is_kept_from_scripts_and_other_sites(browser):
    """The token's cookie is HttpOnly and SameSite=Strict."""
    cookie = browser.get("/queues").headers["Set-Cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
