"""A client needs one address: every service is reached through every gateway."""

import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2

from tests import documents, notices, samples
from tests.refusals import drained, refused
from tests.source import Source
from tests.stack import NAMES, TICKING, unique, unpacked

THROUGH = [(owner, gateway) for owner in NAMES for gateway in NAMES]
every_way = pytest.mark.parametrize(("owner", "through"), THROUGH, ids=[f"{a} through {b}" for a, b in THROUGH])


@pytest.fixture(autouse=True)
def template(stack):
    notices.ensure_template(stack)


def submit(stack, owner, through, request_id=""):
    """A piece of work for that service, handed to that gateway."""
    if owner == "metrics":
        return stack.metrics(through).IngestSamples(samples.batch("routed", 1.0, request_id=request_id))
    if owner == "notify":
        return stack.notify(through).SendNotification(notices.request(notices.email(), request_id=request_id))
    return stack.reports(through).RenderReport(documents.of_text(request_id=request_id))


@every_way
def test_work_is_accepted_waited_for_and_listed_through_any_gateway(stack, owner, through):
    """Submit, wait, get and list by names alone; the answer is the owner's."""
    request_id = unique("routed")
    operations = stack.operations(through)

    name = submit(stack, owner, through, request_id).name
    waited = operations.WaitOperation(operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=30)))
    got = operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
    wanted = operations_pb2.ListOperationsRequest(name=f"operations/{owner}", filter=f"request_id = {request_id}")
    listing, call = operations.ListOperations.with_call(wanted)

    assert name.startswith(f"operations/{owner}/")
    assert waited.done
    assert got == waited
    assert unpacked(got.metadata, ops.OperationMetadata).state == ops.OPERATION_STATE_SUCCEEDED
    assert [each.name for each in listing.operations] == [name]
    # The position of the snapshot, from which a subscriber goes on, passes the hop too.
    assert "waybill-cursor" in dict(call.trailing_metadata())


@every_way
def test_events_are_followed_through_any_gateway(stack, owner, through):
    """The stream begins with a heartbeat, and its cursor is good at any other gateway."""
    with stack.follow(owner, f"waybill.{owner}.operation.*", through=through) as changes:
        begin = changes.cursor
        name = submit(stack, owner, owner).name
        accepted = changes.operation(name)
    elsewhere = NAMES[NAMES.index(through) - 1]
    with stack.resumed(owner, begin, through=elsewhere) as again:
        assert again.operation(name) == accepted

    assert accepted.operation == name


@every_way
def test_queues_workers_and_dead_letters_are_seen_through_any_gateway(stack, owner, through):
    """The admin services are told by `service` whose they are to show."""
    queues = stack.stub(through, admin_pb2_grpc.QueueServiceStub)
    workers = stack.stub(through, admin_pb2_grpc.WorkerServiceStub)
    letters = stack.dead_letters(through)

    named = [queue.name for queue in queues.ListQueues(admin_pb2.ListQueuesRequest(service=owner)).queues]
    shown = workers.ListWorkers(admin_pb2.ListWorkersRequest(service=owner)).workers
    letters.ListDeadLetters(admin_pb2.ListDeadLettersRequest(service=owner))

    assert named
    assert {name.partition(".")[0] for name in named} == {owner}
    assert {worker.name.partition("@")[0] for worker in shown} == {owner}
    assert {task.partition(".")[0] for worker in shown for task in worker.tasks} == {owner}


def test_a_queue_is_paused_and_purged_through_another_gateway(stack):
    """Steering is forwarded as seeing is; a purge cancels what waits and leaves the rest."""
    queues = stack.stub("notify", admin_pb2_grpc.QueueServiceStub)
    of_metrics = {"service": "metrics", "queue": "metrics.ingest"}
    paused = queues.PauseQueue(admin_pb2.PauseQueueRequest(**of_metrics))
    try:
        names = [submit(stack, "metrics", "reports").name for _ in range(3)]
        full = queues.ListQueues(admin_pb2.ListQueuesRequest(service="metrics")).queues
        purged = queues.PurgeQueue(admin_pb2.PurgeQueueRequest(**of_metrics))
    finally:
        resumed = queues.ResumeQueue(admin_pb2.ResumeQueueRequest(**of_metrics))

    assert (paused.paused, resumed.paused) == (True, False)
    (ingest,) = [queue for queue in full if queue.name == "metrics.ingest"]
    assert ingest.depth == purged.cancelled == 3
    assert {stack.get(name)[1].state for name in names} == {ops.OPERATION_STATE_CANCELLED}


def test_a_dead_letter_is_replayed_through_another_gateway(stack, receiver):
    """Its name says whose it is; `service` sends the call there."""
    _, (dead,) = notices.send(stack, notices.webhook("http://192.168.0.1/hook"))
    stack.finished(dead)

    letters = stack.dead_letters("reports")
    replayed = letters.ReplayDeadLetter(admin_pb2.ReplayDeadLetterRequest(service="notify", operation=dead))

    assert replayed.name.startswith("operations/notify/")
    assert stack.finished(replayed)[1].replayed_from == dead


@pytest.mark.parametrize("through", NAMES)
def test_a_report_is_downloaded_through_any_gateway(stack, through):
    """A stream of chunks passes the hop whole, and so does its refusal."""
    operation, _ = stack.finished(submit(stack, "reports", "reports"))
    report = unpacked(operation.response, reports_pb2.RenderReportResponse).report
    request = reports_pb2.DownloadReportRequest(report_id=report.report_id)

    content = b"".join(part.chunk for part in drained(stack.reports(through).DownloadReport(request)))

    assert len(content) == report.size_bytes
    missing = reports_pb2.DownloadReportRequest(report_id="missing")
    refusal = refused(stack.reports(through).DownloadReport, missing)
    assert (*refusal.brief, refusal.domain) == ("NOT_FOUND", "REPORT_NOT_FOUND", "reports")


@pytest.mark.parametrize("through", NAMES)
def test_an_exporter_may_send_its_metrics_to_any_gateway(stack, through):
    """The standard OTLP service belongs to metrics, whichever address the exporter was given."""
    name = unique("source")
    with stack.follow("metrics", "waybill.metrics.operation.succeeded") as succeeded:
        with Source(stack.addresses[through], name):
            pass  # An exporter that ends sends what it has.
        while not (found := series_of(stack, name)):
            next(succeeded)

    assert {info.metric for info in found} == {"shop.load", "shop.memory"}


def series_of(stack, source):
    request = metrics_pb2.ListSeriesRequest(metric_prefix="shop.", page_size=1000)
    return [info for info in stack.metrics().ListSeries(request).series if info.labels["service.name"] == source]


@every_way
def test_a_refusal_comes_back_as_the_owner_gave_it(stack, owner, through):
    """Code, reason, domain and violations are the same as at the owner's own gateway."""
    calls = {
        "metrics": (lambda stack, way: stack.metrics(way).IngestSamples, metrics_pb2.IngestSamplesRequest()),
        "notify": (lambda stack, way: stack.notify(way).SendNotification, notify_pb2.SendNotificationRequest()),
        "reports": (lambda stack, way: stack.reports(way).RenderReport, reports_pb2.RenderReportRequest()),
    }
    method, request = calls[owner]

    refusal = refused(method(stack, through), request)

    assert refusal == refused(method(stack, owner), request)
    assert refusal.domain == owner
    assert refusal.violations


def test_a_service_that_is_nowhere_is_not_found(stack):
    """The answer names those that there are."""
    for call, request in (
        (stack.operations("metrics").GetOperation, operations_pb2.GetOperationRequest(name="operations/payroll/x")),
        (stack.dead_letters("notify").ListDeadLetters, admin_pb2.ListDeadLettersRequest(service="payroll")),
    ):
        refusal = refused(call, request)

        assert refusal.brief == ("NOT_FOUND", "UNKNOWN_SERVICE")
        assert refusal.metadata == {"service": "payroll"}
        assert "metrics, notify, reports" in refusal.message


def test_what_the_scheduler_asks_for_is_seen_like_any_other_operation(stack):
    """Through another service's gateway, with its task and its state."""
    with stack.follow("metrics", "waybill.metrics.operation.succeeded", through="notify") as succeeded:
        change = succeeded.until(events_pb2.OperationChanged, lambda change: change.task == TICKING)

    assert change.queue == "metrics.alerts"
