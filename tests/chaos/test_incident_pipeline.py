"""The incident pipeline while its processes are killed one after another: what the story promises still happens, once.

Deaths between a database commit and its settle are found without chance in `tests/e2e/test_killed_workers.py`.
"""

import threading
import time
from collections import Counter

import grpc
import pytest
from chassis.descriptions import FINAL
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2
from waybill.reports.v1 import reports_pb2
from waybill.store.v1 import store_pb2

from tests import incident, samples
from tests.chaos.forms import side_by_side
from tests.source import Source
from tests.stack import NAMES, TICKING, unique, until

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 240.0


class Killer(threading.Thread):
    """Kills one process after another, each as soon as the one before works again."""

    def __init__(self, stack, victims):
        super().__init__(daemon=True)
        self._stack, self._victims = stack, victims
        self.killed = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.join()

    def run(self):
        for victim in self._victims:
            victim.kill()
            self.killed.append(victim.name)
            victim.start()


class Load(threading.Thread):
    """Batches of samples until the block ends, each sent until it is accepted."""

    def __init__(self, stack):
        super().__init__(daemon=True)
        self._stack, self._over = stack, threading.Event()
        self.metric, self.sent = unique("load"), 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()

    def run(self):
        while not self._over.wait(0.02):
            request = samples.batch(self.metric, 1.0, request_id=unique("batch"))
            insist(self._stack.metrics().IngestSamples, request)
            self.sent += 1


def insist(call, request):
    """As clients do: again with the same request until it is answered."""
    pause, end = threading.Event(), time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call(request, timeout=10)
        except grpc.RpcError as error:
            if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise
            if time.monotonic() > end:
                raise
            pause.wait(0.1)


def published(stack, service, kind, wanted):
    """Every published event of this message type for which `wanted(data)` holds: id and data, in order."""
    found = []
    store = stack.store(service)
    for _, fields in store.client.xrange(store.keys.named("events")):
        if b"e" in fields:
            event, data = store_pb2.PublishedEvent.FromString(fields[b"e"]).event, kind()
            if event.data.Unpack(data) and wanted(data):
                found.append((event.id, data))
    return found


def first(stack, service, kind, wanted):
    """The data of the first such event, once it is published."""
    events = until(lambda: published(stack, service, kind, wanted), f"{kind.DESCRIPTOR.name}", PATIENCE_SECONDS)
    return events[0][1]


@pytest.mark.parametrize(
    "victims", [pytest.param(2, id="short"), pytest.param(8, id="long", marks=side_by_side("stack"))]
)
@pytest.mark.timeout(600)
def test_19_killing_every_process_of_the_pipeline_in_turn_loses_and_repeats_nothing(stack, rng, victims):
    """SIGKILL under load: every alert event is published, the report is rendered once, each delivery is one id.

    One dies before the alert is fired and comes back after: what it follows waits for it.
    """
    away = stack.process("notify", "subscriber")
    chosen = rng.sample([process for process in stack.processes if process.running and process is not away], victims)
    name = unique("incident")
    incident.subscribe(stack, name)
    stack.metrics().CreateAlertRule(metrics_pb2.CreateAlertRuleRequest(rule=incident.rule(name)))
    with Source(stack.addresses["metrics"], name) as source, Load(stack) as load, Killer(stack, chosen) as killer:
        away.kill()
        source.load = 0.97
        fired = first(stack, "metrics", metrics_pb2.AlertFired, lambda data: data.alert.rule_id == name).alert
        away.start()
        source.load = 0.1
        resolved = first(stack, "metrics", metrics_pb2.AlertResolved, lambda data: data.alert.rule_id == name).alert
        report = first(
            stack, "reports", reports_pb2.ReportCompleted, lambda data: data.alert_id == resolved.alert_id
        ).report
        until(lambda: len(delivered(stack, name)) >= 2, "both deliveries", PATIENCE_SECONDS)
    stack.make_whole()
    until(lambda: not unfinished(stack, fired.trace_id), "final states", PATIENCE_SECONDS)

    alerts = [
        data.alert.alert_id
        for kind in (metrics_pb2.AlertFired, metrics_pb2.AlertResolved)
        for _, data in published(stack, "metrics", kind, lambda data: data.alert.rule_id == name)
    ]
    assert alerts == [fired.alert_id] * 2
    completed = published(stack, "reports", reports_pb2.ReportCompleted, lambda d: d.alert_id == fired.alert_id)
    assert [data.report.report_id for _, data in completed] == [report.report_id]
    assert len(list(stack.artifacts.rglob(f"{report.report_id}*"))) == 1
    assert set(Counter(delivered(stack, name)).values()) == {1}
    assert samples.counted(stack, load.metric) == load.sent
    assert sorted(killer.killed) == sorted(process.name for process in chosen)
    incident.unsubscribe(stack, name)


def delivered(stack, recipient):
    """The operation of every delivery to the recipient that is published as delivered."""
    events = published(stack, "notify", notify_pb2.DeliveryDelivered, lambda d: d.delivery.recipient_id == recipient)
    return [data.delivery.operation for _, data in events]


def unfinished(stack, trace_id):
    """Names of what has not ended: all of the incident's trace, and the load."""
    listed = [
        each
        for service in NAMES
        for wanted in (f"trace_id = {trace_id}", "task = metrics.ingest_samples")
        if service == "metrics" or wanted.startswith("trace")
        for each in stack.listed(service, wanted)
    ]
    return [name for name, kept in listed if kept.state not in FINAL and kept.task != TICKING]
