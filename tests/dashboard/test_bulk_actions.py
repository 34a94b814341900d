"""Many at once, by the dashboard's forms, on a real gateway and a real worker."""

import re
import sys

import httpx
import pytest
from chassis.testing.harness import Harness, quiet_port
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops

from tests import notices
from tests.receiver import Answer
from tests.stack import SERVICES, Stack

pytestmark = pytest.mark.slow

COUNT = 5
DELIVERY = "task = notify.deliver_webhook"
JSON = {"Accept": "application/json"}


class Notify(Stack):
    """notify alone, and a dashboard over it."""

    def __init__(self, directory):
        notify = next(service for service in SERVICES if service.name == "notify")
        Harness.__init__(self, directory, [notify])
        self.client = None


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Notify(tmp_path_factory.mktemp("bulk")) as stack:
        stack.start()
        address = f"127.0.0.1:{quiet_port()}"
        stack.program(
            "dashboard",
            [sys.executable, "-m", "dashboard_service", "web"],
            environment={"DASHBOARD_LISTEN": address, "DASHBOARD_TRACES_TARGET": ""},
            ready_event="events.following",
        ).start()
        stack.page = f"http://{address}"
        notices.ensure_template(stack)
        yield stack


@pytest.fixture
def browser(stack):
    with httpx.Client(base_url=stack.page, timeout=30) as client:
        yield client


def send(browser, action, **fields):
    """The form of many, confirmed, for all that match."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/queues").text).group(1)
    form = {"csrf_token": token, "action": action, "service": "notify", "all": "1", "confirmed": "1", **fields}
    return browser.post("/bulk", data=form, headers=JSON)


def refused_deliveries(stack, receiver, then):
    """So many deliveries that their receiver has refused for good, each with its endpoint, which answers `then`."""
    endpoints = [receiver.endpoint().answers(Answer(400), Answer(then)) for _ in range(COUNT)]
    names = [notices.send(stack, endpoint.channel)[1][0] for endpoint in endpoints]
    for name in names:
        assert stack.finished(name)[1].state == ops.OPERATION_STATE_FAILED
    return names, endpoints


def letters(stack):
    return stack.dead_letters("notify").ListDeadLetters(admin_pb2.ListDeadLettersRequest(filter=DELIVERY))


def test_all_dead_letters_that_match_are_replayed_once(stack, browser, receiver):
    """Each receiver has the second delivery; sent again, the form finds nothing that was not replayed."""
    names, endpoints = refused_deliveries(stack, receiver, then=200)

    answer = send(browser, "replay", filter=DELIVERY, rate="100")

    assert (answer.status_code, answer.json()["refused"]) == (200, [])
    for endpoint in endpoints:
        endpoint.wait_for(2)
    replays = {letter.operation: letter.replayed_by for letter in letters(stack).dead_letters}
    assert set(names) <= set(replays)
    for name in names:
        operation, kept = stack.finished(replays[name])
        assert (kept.state, kept.replayed_from) == (ops.OPERATION_STATE_SUCCEEDED, name)
        assert operation.name == replays[name]
    assert send(browser, "replay", filter=DELIVERY, confirmed="").status_code == 400
    assert [len(endpoint.received) for endpoint in endpoints] == [2] * COUNT


def test_all_dead_letters_that_match_are_discarded(stack, browser, receiver):
    """They are dead letters no more; their operations stay FAILED. The audit log says what was done to how many."""
    names, _ = refused_deliveries(stack, receiver, then=400)
    count = len(letters(stack).dead_letters)

    answer = send(browser, "discard", filter=DELIVERY)

    assert answer.status_code == 200
    assert not {letter.operation for letter in letters(stack).dead_letters} & set(names)
    assert {stack.get(name)[1].state for name in names} == {ops.OPERATION_STATE_FAILED}
    rows = browser.get("/audit", params={"action": "dead_letters.discard_matching"}).text.partition("<tbody")[2]
    assert DELIVERY in rows
    assert re.search(rf">{count}<", rows)


def test_all_that_waits_and_matches_is_cancelled(stack, browser):
    """What the filter leaves out stays where it is."""
    queues = stack.stub("notify", admin_pb2_grpc.QueueServiceStub)
    queues.PauseQueue(admin_pb2.PauseQueueRequest(queue="notify.default"))
    wanted, other = [
        [
            stack.notify().SendNotification(notices.request(notices.email(), request_id=f"{kind}{n}")).name
            for n in range(COUNT)
        ]
        for kind in ("wanted", "other")
    ]

    answer = send(browser, "cancel", filter='request_id:"wanted"')

    assert answer.status_code == 200
    assert {stack.finished(name)[1].state for name in wanted} == {ops.OPERATION_STATE_CANCELLED}
    assert {stack.get(name)[1].state for name in other} == {ops.OPERATION_STATE_QUEUED}
