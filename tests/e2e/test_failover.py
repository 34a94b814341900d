"""All services on a store behind Sentinels: a failover is an outage that ends by itself."""

import pytest
from chassis.testing.failover import ReplicatedValkey
from waybill.operations.v1 import operations_pb2 as ops

from tests import documents, notices, samples
from tests.stack import NAMES, Stack

pytestmark = [pytest.mark.slow, pytest.mark.thorough, pytest.mark.timeout(400)]


@pytest.fixture
def stack(tmp_path):
    """Every process of every service; they know of Sentinels alone."""
    with (
        ReplicatedValkey(tmp_path / "valkey") as servers,
        Stack(tmp_path / "stack", {"WAYBILL_SHARED_STATE_DIR": "1"}, valkey=servers) as running,
    ):
        running.start()
        notices.ensure_template(running)
        yield running


def accept_everywhere(stack):
    return [
        stack.metrics().IngestSamples(samples.batch("failover", 1.0)).name,
        stack.notify().SendNotification(notices.request(notices.email())).name,
        stack.reports().RenderReport(documents.of_text()).name,
    ]


def test_every_service_follows_a_failover(stack):
    """Gateways, workers, scheduler and subscribers: none is restarted, what was replicated and what is new succeeds."""
    lives = [process.pid for process in stack.processes]
    accepted = accept_everywhere(stack)
    stack.valkey.replicate()

    stack.valkey.kill_primary()
    for service in NAMES:
        stack.wait_until_serving(service)
    accepted += accept_everywhere(stack)

    assert [stack.finished(name, 60)[1].state for name in accepted] == [ops.OPERATION_STATE_SUCCEEDED] * len(accepted)
    with stack.follow("metrics", "waybill.metrics.operation.succeeded") as ticks:
        assert next(ticks).subject.startswith("operations/metrics/")  # the scheduler's
    assert [process.pid for process in stack.processes if process.running] == lives
