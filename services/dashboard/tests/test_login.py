"""Who may see what and do what, where there are tokens: sessions, programs, proxies; and how each ends."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from chassis.roles import Role
from chassis.settings import WaybillSettings
from chassis.testing.callers import Callers
from dashboard_service import clients
from dashboard_service.context import KEY
from dashboard_service.settings import DashboardSettings
from dashboard_service.web import create_app
from itsdangerous import URLSafeTimedSerializer
from playwright.sync_api import expect

from services.dashboard.tests.forms import csrf

PAGES = ("/", "/operations", "/queues", "/workers", "/dead-letters", "/alerts", "/audit")
PAUSE = "/queues/reports/reports.default/pause"
JSON = {"Accept": "application/json"}


@pytest.fixture
def callers(tmp_path):
    return Callers.written(tmp_path / "tokens.json", {"ada": [Role.OPERATOR]})


@pytest.fixture
def settings(fakes, tmp_path, callers):
    waybill = WaybillSettings(routes=fakes.routes, state_dir=tmp_path, tokens_file=callers.path)
    return DashboardSettings(waybill=waybill, traces_target="", max_streams=4, principal_header="X-Forwarded-User")


@pytest.fixture
def log_in(app, callers):
    """A browser that has logged in by the token of a name."""

    def enter(name, path="/login", **options):
        browser = app.test_client()
        form = {"csrf_token": csrf(browser, path), "token": callers.tokens[name]}
        browser.answer = browser.post(path, data=form, **options)
        return browser

    return enter


def forget_the_last_look(app):
    app.extensions[KEY].authority._file.look()


def actions_of(app):
    """Every address that changes something, with stand-ins for its arguments."""
    for rule in app.url_map.iter_rules():
        if "POST" in rule.methods and not rule.endpoint.startswith("login."):
            with app.test_request_context():
                yield rule, re.sub(r"<[^>]+>", "reports", rule.rule)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_shown_to_nobody_who_has_not_logged_in(browser, path):
    """A browser is sent to log in, and from there back; a program is told what to send."""
    answer = browser.get(path)
    told = browser.get(path, headers=JSON)

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login?next=")
    assert (told.status_code, told.json["reason"]) == (401, "CREDENTIALS_MISSING")


def test_nothing_but_health_and_the_way_in_is_open(app):
    """Every other address of the application, whatever its method, asks who comes."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "reports", rule.rule)
        for method in rule.methods - {"OPTIONS", "HEAD"}:
            answer = app.test_client().open(path, method=method, headers=JSON, json={} if "/api/" in path else None)
            open_to_all = rule.endpoint in {"static", "healthz", "login.form"}
            assert (answer.status_code in {200, 404}) if open_to_all else (answer.status_code in {401, 403}), path


def test_a_token_opens_a_session(log_in):
    """The cookie is kept from scripts and other sites, and holds no token."""
    browser = log_in("viewer", path="/login?next=%2Fqueues%3Fa%3Db")
    (cookie,) = [each for each in browser.answer.headers.getlist("Set-Cookie") if each.startswith("waybill_session=")]

    assert browser.answer.status_code == 303
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "wbt_" not in cookie
    assert browser.get("/queues").status_code == 200
    assert "viewer" in browser.get("/queues").text


def test_over_tls_the_cookies_are_secure(log_in):
    """A browser then never sends them in the open."""
    browser = log_in("viewer", base_url="https://localhost")

    assert all("Secure" in each for each in browser.answer.headers.getlist("Set-Cookie"))


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_login_leads_to_no_other_site(app, callers, target):
    """Whatever the address or the form says."""
    browser = app.test_client()
    form = {"csrf_token": csrf(browser, "/login"), "token": callers.tokens["viewer"], "next": target}

    assert browser.post("/login", data=form).headers["Location"] == "/"
    assert 'name="next" value="/"' in browser.get("/login", query_string={"next": target}).text


def test_a_wrong_token_opens_nothing(app, callers):
    """Unknown, expired or empty: 401, and no session."""
    for token in ("wbt_guess", callers.tokens["expired"], "", "x" * 900):
        browser = app.test_client()
        answer = browser.post("/login", data={"csrf_token": csrf(browser, "/login"), "token": token})
        assert answer.status_code == 401
        assert browser.get_cookie("waybill_session") is None
        assert token not in answer.text or not token


def test_a_login_of_another_site_is_refused(app, callers):
    """Nobody is logged in as somebody else without noticing."""
    answer = app.test_client().post("/login", data={"token": callers.tokens["viewer"]})

    assert answer.status_code == 403


def test_the_form_token_is_another_after_the_login(app, callers):
    """What a page of before knew is worth nothing after."""
    browser = app.test_client()
    before = csrf(browser, "/login")
    browser.post("/login", data={"csrf_token": before, "token": callers.tokens["operator"]})

    assert csrf(browser) != before
    assert browser.post(PAUSE, data={"csrf_token": before}).status_code == 403


def test_a_viewer_sees_and_an_operator_acts(app, log_in, reports, hostile):
    """Who may not act has no button to, and is refused all the same; the audit log says who it was."""
    viewer, operator = log_in("viewer"), log_in("operator")
    pages = (*PAGES, f"/operations/reports/{hostile[1].id}", f"/dead-letters/reports/{hostile[0].id}")
    for path in pages:
        shown = viewer.get(path)
        assert shown.status_code == 200
        forms = re.findall(r'<form[^>]+method="post"[^>]*action="([^"]+)"', shown.text)
        assert forms == ["/logout"], path
        assert 'data-f="choose"' not in shown.text
    assert "/pause" in operator.get("/queues").text

    token = re.search(r'name="csrf_token" value="([^"]+)"', viewer.get("/queues").text).group(1)
    refused = viewer.post(PAUSE, data={"csrf_token": token}, headers=JSON)
    assert (refused.status_code, refused.json["reason"]) == (403, "ROLE_MISSING")
    assert reports.paused == set()

    operator.post(PAUSE, data={"csrf_token": csrf(operator)})
    assert reports.paused == {"reports.default"}
    entry = app.extensions[KEY].audit.page(1)[0].action
    assert (entry.principal, entry.action) == ("operator", "queues.pause")


def test_every_action_is_refused_to_a_viewer_and_without_the_form_token(app, log_in):
    """Each address that changes something, as the application lists them."""
    viewer, operator = log_in("viewer"), log_in("operator")
    token = re.search(r'name="csrf_token" value="([^"]+)"', viewer.get("/queues").text).group(1)
    seen = 0
    for rule, path in actions_of(app):
        if rule.endpoint == "api.submit":
            assert viewer.post(path, json={}).status_code == 403
            continue
        assert viewer.post(path, data={"csrf_token": token}).status_code == 403, path
        for form in ({}, {"csrf_token": "guessed"}):
            assert operator.post(path, data=form).status_code == 403, path
        seen += 1
    assert seen >= 9


def test_a_session_ends_with_its_token(app, log_in, callers):
    """Revoked, it lets nobody in any more; other sessions go on."""
    viewer, operator = log_in("viewer"), log_in("operator")
    callers.revoke("viewer")
    forget_the_last_look(app)

    assert viewer.get("/queues").status_code == 303
    assert operator.get("/queues").status_code == 200


def test_a_session_ends_when_its_token_does(app, log_in, callers, monkeypatch):
    """Its expiry is asked with every request."""
    callers.issue("guest", [Role.VIEWER], expires=datetime.now(UTC) + timedelta(hours=1))
    forget_the_last_look(app)
    guest = log_in("guest")
    assert guest.get("/queues").status_code == 200

    monkeypatch.setattr("chassis.authority.time.time", lambda: datetime.now(UTC).timestamp() + 3_601)

    assert guest.get("/queues").status_code == 303


def test_a_session_ends_by_logging_out_and_by_age(log_in, app, settings):
    """The browser forgets it; and one that is old counts no more."""
    browser = log_in("viewer")
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/queues").text).group(1)
    cookie = browser.get_cookie("waybill_session").value
    browser.post("/logout", data={"csrf_token": token})
    assert browser.get("/queues").status_code == 303

    sessions = app.extensions[KEY].sessions
    assert sessions.principal(cookie)
    sessions._lasts = timedelta(seconds=-1)
    assert sessions.principal(cookie) is None


def test_a_cookie_that_was_not_signed_here_is_nothing(app, callers):
    """Who knows a hash, from the file of tokens, cannot make a session of it."""
    registry = app.extensions[KEY].authority._file.value()
    (sha256,) = [entry.sha256 for entry in registry.document.tokens if entry.name == "operator"]
    for cookie in (sha256, URLSafeTimedSerializer(b"guess", salt="waybill-session").dumps(sha256), "", "a.b.c"):
        browser = app.test_client()
        browser.set_cookie("waybill_session", cookie)
        assert browser.get("/queues").status_code == 303


def test_a_session_counts_in_every_process_that_has_the_key(log_in, settings):
    """Also in one that was started later; the key is its owner's alone."""
    cookie = log_in("viewer").get_cookie("waybill_session").value
    connected = clients.connect(settings)
    other = create_app(settings, connected).test_client()
    other.set_cookie("waybill_session", cookie)

    assert other.get("/audit").status_code == 200
    assert (settings.folder / "session.key").stat().st_mode & 0o777 == 0o600
    connected.close()


def test_a_program_sends_its_token(browser, callers, fakes):
    """With each request of the API; the gateway hears for whom it is asked, and not the token."""

    def submit(name):
        body = {"templateId": "standard", "title": "Weekly"}
        return browser.post("/api/v1/reports/render-report", json=body, headers=dict(callers.metadata(name)))

    assert submit("submitter").status_code == 202
    heard = fakes["reports"].metadata
    assert (heard["waybill-principal"], heard["waybill-roles"]) == ("submitter", "submitter")
    assert "authorization" not in heard
    assert (submit("viewer").status_code, submit("viewer").json["reason"]) == (403, "ROLE_MISSING")
    assert (submit("stranger").status_code, submit("stranger").json["reason"]) == (401, "TOKEN_UNKNOWN")
    assert browser.get("/api/v1/operations/reports", headers=dict(callers.metadata("viewer"))).status_code == 200


def test_whom_a_proxy_names_has_the_roles_that_the_file_says(browser):
    """Under `certificates`, as a name that somebody else has made sure of; another one has none."""
    assert browser.get("/queues", headers={"X-Forwarded-User": "ada"}).status_code == 200
    assert browser.get("/queues", headers={"X-Forwarded-User": "eve"}).status_code == 403


def test_a_live_stream_ends_with_the_session(app, hub, callers, log_in):
    """What is open does not outlive what let it in."""
    browser = log_in("viewer")
    answer = browser.get("/live?changes=all", buffered=False)
    frames = iter(answer.response)
    next(frames)
    callers.revoke("viewer")
    forget_the_last_look(app)

    assert len(list(frames)) < 1_000
    answer.close()


@pytest.mark.needs("chromium")
def test_a_browser_logs_in_and_out(callers, page):
    """As a person does it: what a browser says of where a form comes from is part of it."""
    page.goto("/queues")
    page.get_by_label("Token").fill(callers.tokens["operator"])
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("/queues$"))
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")

    page.get_by_role("button", name="Log out").click()

    expect(page).to_have_url(re.compile("/login"))
