"""What the tests of the dashboard share: gateways in memory, and the application over them."""

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
from waybill.admin.v1 import admin_pb2
from waybill.reports.v1 import reports_pb2
from werkzeug.serving import make_server

from services.dashboard.tests.fake_gateway import FakeGateways
from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import HOSTILE
from services.dashboard.tests.live_client import LiveClient


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
