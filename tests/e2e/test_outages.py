"""What clients see while something is down, and that all of it comes back by itself."""

import signal
import time

import pytest
from google.longrunning import operations_pb2
from waybill.operations.v1 import operations_pb2 as ops

from tests import documents, notices, samples
from tests.refusals import refused
from tests.stack import NAMES, signal_group, unique

pytestmark = pytest.mark.own_outage

DEADLINE_SECONDS = 3.0


@pytest.fixture(autouse=True)
def template(stack):
    notices.ensure_template(stack)


def work_of(stack, service, through):
    """A method of that service that accepts work, at that gateway, and a request for it."""
    return {
        "metrics": (stack.metrics(through).IngestSamples, samples.batch("outages", 1.0)),
        "notify": (stack.notify(through).SendNotification, notices.request(notices.email())),
        "reports": (stack.reports(through).RenderReport, documents.of_text()),
    }[service]


def timely(call, request):
    """The refusal of a call, which must come within its deadline."""
    began = time.monotonic()
    refusal = refused(call, request, timeout=DEADLINE_SECONDS)
    assert time.monotonic() - began < DEADLINE_SECONDS
    return refusal


def assert_nothing_is_answered(stack, accepted):
    """Accepting, reading and forwarding: UNAVAILABLE with RetryInfo, from each gateway."""
    for service in NAMES:
        elsewhere = NAMES[NAMES.index(service) - 1]
        read = (stack.operations(service).GetOperation, operations_pb2.GetOperationRequest(name=accepted[service]))
        for call, request in (work_of(stack, service, service), read, work_of(stack, service, elsewhere)):
            refusal = timely(call, request)

            assert refusal.code.name == "UNAVAILABLE", refusal
            assert refusal.domain == service
            assert refusal.retry_after is not None


def accept_everywhere(stack):
    """One operation of each service, not waited for."""
    accepted = {}
    for service in NAMES:
        call, request = work_of(stack, service, service)
        accepted[service] = call(request).name
    return accepted


def assert_all_is_well(stack, accepted):
    """Every gateway serves again; what was accepted before succeeds, and so does what is accepted now."""
    for service in NAMES:
        stack.wait_until_serving(service)
    for name in [*accepted.values(), *accept_everywhere(stack).values()]:
        assert stack.finished(name)[1].state == ops.OPERATION_STATE_SUCCEEDED


def test_a_stopped_valkey_is_unavailable_and_all_recovers_by_itself(stack):
    """UNAVAILABLE with RetryInfo within the deadline, health NOT_SERVING; then everything goes on, nobody restarted."""
    accepted = accept_everywhere(stack)
    lives = [process.pid for process in stack.processes]

    stack.valkey.stop()
    for service in NAMES:
        stack.wait_until_not_serving(service)
    assert_nothing_is_answered(stack, accepted)
    stack.valkey.start()

    assert_all_is_well(stack, accepted)
    assert [process.pid for process in stack.processes if process.running] == lives


def test_a_frozen_valkey_is_unavailable_and_all_recovers_by_itself(stack):
    """It takes connections and says nothing: no gateway hangs with it."""
    accepted = accept_everywhere(stack)

    with stack.frozen_valkey():
        for service in NAMES:
            stack.wait_until_not_serving(service)
        call, request = work_of(stack, "metrics", "metrics")
        refusal = timely(call, request)
        forwarded = timely(*work_of(stack, "reports", "notify"))

    assert [each.code.name for each in (refusal, forwarded)] == ["UNAVAILABLE"] * 2
    assert None not in {refusal.retry_after, forwarded.retry_after}
    assert_all_is_well(stack, accepted)


def test_a_stream_of_events_goes_on_after_an_outage(stack):
    """From the cursor that the client had: nothing is missed and nothing comes twice."""
    with stack.follow("metrics", "waybill.metrics.operation.*") as changes:
        before = stack.metrics().IngestSamples(samples.batch("outages", 1.0)).name
        changes.operation(before)
        cursor = changes.cursor
    stack.valkey.restart()
    stack.wait_until_serving("metrics")
    after = stack.metrics().IngestSamples(samples.batch("outages", 1.0)).name

    with stack.resumed("metrics", cursor) as resumed:
        resumed.operation(after)
        subjects = [event.subject for event in resumed.seen if event.type.endswith(".accepted")]

    assert before not in subjects
    assert subjects.count(after) == 1


def test_a_gateway_that_is_down_is_unavailable_through_the_others(stack):
    """The forwarding gateway says who is missing, and that it is worth trying again."""
    stack.process("metrics", "gateway").kill()

    refusal = timely(stack.metrics(through="notify").IngestSamples, samples.batch("outages", 1.0))

    assert refusal.brief == ("UNAVAILABLE", "OWNER_UNAVAILABLE")
    assert refusal.metadata == {"service": "metrics"}
    assert refusal.retry_after is not None


def test_what_was_accepted_survives_the_death_of_everything(stack):
    """Valkey, gateways and workers are killed with kill -9; the operation succeeds when they are back."""
    signal_group(stack.process("metrics", "worker"), signal.SIGSTOP)
    metric = unique("survivor")
    name = stack.metrics().IngestSamples(samples.batch(metric, 1.0)).name

    for role in ("gateway", "worker", "scheduler"):
        stack.process("metrics", role).kill()
    stack.valkey.kill()
    stack.make_whole()

    _, kept = stack.finished(name)
    assert kept.state == ops.OPERATION_STATE_SUCCEEDED
    assert samples.counted(stack, metric) == 1
