"""The dashboard and a gateway are killed or replaced under load: whoever looks on ends with the service's records."""

import shutil
import sys

import httpx
import pytest
from chassis.testing.harness import Harness, ServiceUnderTest, quiet_port
from google.longrunning import operations_pb2
from playwright.sync_api import expect, sync_playwright
from waybill.events.v1 import events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

from conftest import infrastructure
from tests import rolling
from tests.dashboard.load import HttpLoad, Load
from tests.dashboard.onlookers import WAIT_SECONDS, EventSource, Subscriber

SHORT, LONG = 2, 20
REDEPLOYS = 8
# Enough to say that somebody who was cut off is back.
FURTHER = 10
ROWS = 100

pytestmark = pytest.mark.slow


@pytest.fixture
def stack(tmp_path):
    """A gateway, a worker, and a dashboard over them."""
    with Harness(tmp_path, [ServiceUnderTest("metrics", "metrics_service")]) as harness:
        harness.start()
        address = f"127.0.0.1:{quiet_port()}"
        harness.dashboard = harness.program(
            "dashboard",
            [sys.executable, "-m", "dashboard_service", "web"],
            environment={"DASHBOARD_LISTEN": address, "DASHBOARD_TRACES_TARGET": ""},
            ready_event="events.following",
        )
        harness.dashboard.start()
        harness.page = f"http://{address}"
        yield harness


def kill_dashboard(stack):
    """All of it at once, gunicorn's own process and its worker."""
    stack.dashboard.end()
    stack.dashboard.start()


def kill_gateway(stack):
    gateway = stack.process("metrics", "gateway")
    gateway.kill()
    gateway.start()
    stack.wait_until_serving("metrics")


def subscriber(stack, cursor):
    return Subscriber(stack.stub("metrics", events_pb2_grpc.EventServiceStub), "metrics", cursor)


def first_position(stack):
    """The cursor of the service, and what a browser is given for it."""
    operations = stack.operations("metrics")
    _, call = operations.ListOperations.with_call(operations_pb2.ListOperationsRequest(name="operations/metrics"))
    cursor = dict(call.trailing_metadata())["waybill-cursor"]
    page = httpx.get(f"{stack.page}/operations", timeout=WAIT_SECONDS).text
    return cursor, page.split('data-cursor="')[1].split('"')[0]


@pytest.mark.parametrize(
    "rounds", [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.chaos)]
)
def test_a_subscriber_and_an_event_source_end_with_the_services_own_records(stack, rounds):
    """Each event once, in the log's order, whatever was killed: no gap, no repeat, no resync."""
    cursor, last_id = first_position(stack)
    load = Load(stack.stub("metrics", metrics_pb2_grpc.MetricsServiceStub))

    with subscriber(stack, cursor) as subscribed, EventSource(stack.page, last_id) as source:
        with load:
            source.wait_for_more(FURTHER)
            for number in range(rounds):
                (kill_gateway if number % 2 else kill_dashboard)(stack)
                subscribed.wait_for_more(FURTHER)
                source.wait_for_more(FURTHER)
        accepted = set(load.accepted.values())
        for onlooker in (subscribed, source):
            onlooker.wait_for(lambda it: it.ended >= accepted)
    with subscriber(stack, cursor) as records:
        records.wait_for(lambda it: it.ended >= accepted)

    assert len(records.seen) == len(set(records.seen))
    assert subscribed.seen == records.seen
    assert source.seen == records.seen
    assert source.resyncs == []
    assert source.connections > (rounds + 1) // 2, "each death of the dashboard has cut it off"


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(1, id="short", marks=pytest.mark.thorough),
        pytest.param(REDEPLOYS, id="long", marks=pytest.mark.chaos),
    ],
)
def test_a_dashboard_that_is_replaced_refuses_nothing_and_shows_everything(stack, rounds):
    """SIGTERM: it ends within its grace, open streams or not; each key is one operation; nobody misses an event."""
    cursor, last_id = first_position(stack)
    load = HttpLoad(stack.page)

    with EventSource(stack.page, last_id) as source:
        with load:
            source.wait_for_more(FURTHER)
            for _ in range(rounds):
                rolling.redeploy(stack.dashboard)
                source.wait_for_more(FURTHER)
        accepted = load.accepted.values()
        source.wait_for(lambda it: it.ended >= set(accepted))
    with subscriber(stack, cursor) as records:
        records.wait_for(lambda it: it.ended >= set(accepted))

    assert load.refused == []
    # What was accepted and not answered is found again by its key.
    assert len(set(accepted)) == len(accepted)
    assert records.ended == set(accepted)
    assert source.seen == records.seen
    assert source.resyncs == []


@pytest.mark.needs("chromium")
def test_a_browser_left_open_ends_with_the_services_own_records(stack):
    """The rows that it shows are the newest operations in their final states, each once, without a reload."""
    program = infrastructure("chromium")
    load = Load(stack.stub("metrics", metrics_pb2_grpc.MetricsServiceStub))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(program) or program, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(f"{stack.page}/operations")
        connection = page.locator("#connection")
        expect(connection).to_have_attribute("data-state", "live", timeout=WAIT_SECONDS * 1000)
        page.evaluate("window.marked = true")

        with load:
            for kill in (kill_dashboard, kill_gateway):
                kill(stack)
                shown = page.locator("tr.operation").count()
                newest = last(load.accepted)
                expect(page.locator(f'tr[data-name="{newest}"]')).to_have_count(1, timeout=WAIT_SECONDS * 1000)
                assert shown <= ROWS
        expect(page.locator(f'tr[data-name="{last(load.accepted)}"][data-state="SUCCEEDED"]')).to_have_count(
            1, timeout=WAIT_SECONDS * 1000
        )
        expect(page.locator('tr.operation:not([data-state="SUCCEEDED"])')).to_have_count(0, timeout=WAIT_SECONDS * 1000)
        rows = page.evaluate("[...document.querySelectorAll('tr.operation')].map((row) => row.dataset.name)")
        marked = page.evaluate("window.marked === true")
        browser.close()

    asked = operations_pb2.ListOperationsRequest(name="operations/metrics", page_size=ROWS)
    records = stack.operations("metrics").ListOperations(asked).operations
    assert rows == [each.name for each in records]
    assert {state(each) for each in records} == {ops.OPERATION_STATE_SUCCEEDED}
    assert marked


def last(accepted):
    return next(reversed(accepted.values()))


def state(operation):
    metadata = ops.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.state
