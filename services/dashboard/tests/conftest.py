"""What the tests of the dashboard share: gateways in memory, and the application over them."""

import os
import shutil
import threading
from collections.abc import Iterator

import pytest
from chassis.settings import WaybillSettings
from dashboard_service import clients
from dashboard_service.context import KEY
from dashboard_service.settings import DashboardSettings
from dashboard_service.web import create_app
from flask.testing import FlaskClient
from google.rpc import code_pb2
from playwright.sync_api import expect, sync_playwright
from waybill.admin.v1 import admin_pb2
from waybill.reports.v1 import reports_pb2
from werkzeug.serving import make_server

from services.dashboard.tests.fake_gateway import FakeGateways
from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import HOSTILE
from services.dashboard.tests.live_client import LiveClient

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def fakes() -> Iterator[FakeGateways]:
    with FakeGateways() as gateways:
        yield gateways


@pytest.fixture
def settings(fakes, tmp_path):
    """The dashboard in front of the fake gateways, with no trace receiver."""
    waybill = WaybillSettings(routes=fakes.routes, state_dir=tmp_path)
    return DashboardSettings(waybill=waybill, traces_target="", max_streams=4)


@pytest.fixture
def app(settings):
    connected = clients.connect(settings)
    application = create_app(settings, connected)
    yield application
    application.extensions[KEY].hub.stop()
    application.extensions[KEY].errands.stop()
    application.extensions[KEY].audit.close()
    connected.close()


@pytest.fixture
def hub(app):
    """The live hub, following every service."""
    hub = app.extensions[KEY].hub
    hub.start()
    return hub


@pytest.fixture
def browser(app) -> FlaskClient:
    """A client that keeps cookies, as browsers do."""
    return app.test_client()


@pytest.fixture
def address(app, hub) -> Iterator[str]:
    """The application over real HTTP."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    hub.stop()
    server.shutdown()
    thread.join()


@pytest.fixture
def live(address):
    """Live streams, as a browser opens them."""

    def open_stream(query="changes=all", last_id=""):
        return LiveClient(f"{address}/live?{query}", last_id)

    return open_stream


@pytest.fixture
def reports(fakes):
    return fakes["reports"].service


@pytest.fixture
def hostile(fakes, reports):
    """An operation that failed with hostile text wherever a client or a task can put some."""
    reports.tasks[HOSTILE] = HOSTILE
    reports.workers[HOSTILE] = admin_pb2.Worker(
        name=HOSTILE, pool=HOSTILE, concurrency=1, queues=[HOSTILE], version=HOSTILE, tasks=[HOSTILE]
    )
    request = reports_pb2.RenderReportRequest(title=HOSTILE, facts={HOSTILE: HOSTILE})
    error = a_status(code_pb2.FAILED_PRECONDITION, HOSTILE, HOSTILE, **{HOSTILE: HOSTILE})

    def make():
        kept = reports.accept(HOSTILE, request, labels={HOSTILE: HOSTILE}, request_id=HOSTILE, parent=HOSTILE)
        reports.begin(kept, HOSTILE)
        reports.progress(kept, 5, HOSTILE)
        reports.fail(kept, error)
        running = reports.accept(HOSTILE, request, labels={HOSTILE: HOSTILE})
        reports.begin(running, HOSTILE)
        reports.progress(running, 5, HOSTILE)
        return kept, running

    return fakes.do(make)


@pytest.fixture(scope="module")
def chromium():
    program = os.environ.get("WAYBILL_TEST_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address):
    """A page that fails the test when a script does, when the policy stops something or another host is asked."""
    context = chromium.new_context(base_url=address, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith(address) else wrong.append(asked.url))
    page.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    yield page
    context.close()
    assert [each for each in wrong if "/live" not in each and "status of 4" not in each] == []
