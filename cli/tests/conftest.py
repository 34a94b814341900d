"""A gateway as the command sees it: real gRPC on loopback, answers from memory."""

from concurrent import futures
from datetime import timedelta

import grpc
import pytest
from chassis.errors import FieldViolation, InvalidArgument, NotFound, Unavailable
from chassis.statuses import STATUS_DETAILS_KEY, to_status
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import code_pb2
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.operations.v1 import operations_pb2 as waybill_pb2
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

NAME = "operations/reports/01900000-0000-7000-8000-000000000001"


def an_operation(state="SUCCEEDED", name=NAME, **changes):
    metadata = waybill_pb2.OperationMetadata(
        state=f"OPERATION_STATE_{state}",
        task="reports.render_report",
        queue="reports.default",
        attempt=1,
        max_attempts=5,
        trace_id="ab" * 16,
        **changes,
    )
    metadata.create_time.FromSeconds(1_700_000_000)
    operation = operations_pb2.Operation(name=name, done=state in {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
    operation.metadata.Pack(metadata)
    if state == "SUCCEEDED":
        operation.response.Pack(reports_pb2.RenderReportResponse(report=reports_pb2.Report(report_id="r1")))
    elif operation.done:
        operation.error.code = code_pb2.ABORTED
        operation.error.message = "it could not be"
    return operation


def a_change(kind="succeeded", name=NAME):
    event = events_pb2.Event(id=kind, type=f"waybill.reports.operation.{kind}", subject=name)
    event.time.FromSeconds(1_700_000_001)
    event.data.Pack(
        events_pb2.OperationChanged(
            operation=name, state="OPERATION_STATE_SUCCEEDED", task="reports.render_report", attempt=1, max_attempts=5
        )
    )
    return event


def refuse(context, error):
    status = to_status(error, "reports")
    context.set_trailing_metadata(((STATUS_DETAILS_KEY, status.SerializeToString()),))
    context.abort(error.code, error.message)


class FakeGateway(
    operations_pb2_grpc.OperationsServicer,
    reports_pb2_grpc.ReportsServiceServicer,
    events_pb2_grpc.EventServiceServicer,
    admin_pb2_grpc.QueueServiceServicer,
    admin_pb2_grpc.WorkerServiceServicer,
    admin_pb2_grpc.DeadLetterServiceServicer,
    admin_pb2_grpc.OperationServiceServicer,
):
    """Serves reports alone; metrics is unavailable, notify has no route. `asked` holds every request.

    Admin methods answer as admin.proto says, from memory.
    """

    NAME = NAME
    an_operation = staticmethod(an_operation)
    a_change = staticmethod(a_change)

    def __init__(self):
        self.asked = []
        self.operation = an_operation()
        # What one Subscribe call sends before its stream breaks.
        self.streams = [[a_change("began"), a_change()]]
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        for add in (
            operations_pb2_grpc.add_OperationsServicer_to_server,
            reports_pb2_grpc.add_ReportsServiceServicer_to_server,
            events_pb2_grpc.add_EventServiceServicer_to_server,
            admin_pb2_grpc.add_QueueServiceServicer_to_server,
            admin_pb2_grpc.add_WorkerServiceServicer_to_server,
            admin_pb2_grpc.add_DeadLetterServiceServicer_to_server,
            admin_pb2_grpc.add_OperationServiceServicer_to_server,
        ):
            add(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()

    def _only_reports(self, service, context):
        if service == "notify":
            refuse(context, NotFound("there is no service 'notify'", reason="UNKNOWN_SERVICE"))
        if service != "reports":
            refuse(context, Unavailable(f"{service} is not there", retry_after=timedelta(seconds=2)))

    def GetOperation(self, request, context):
        self.asked.append(request)
        if request.name != self.operation.name:
            refuse(context, NotFound("no such operation", reason="OPERATION_NOT_FOUND"))
        return self.operation

    def WaitOperation(self, request, context):
        self.asked.append(request)
        return self.operation

    def CancelOperation(self, request, context):
        self.asked.append(request)
        self.operation = an_operation("CANCELLED")
        return empty_pb2.Empty()

    def ListOperations(self, request, context):
        self.asked.append(request)
        self._only_reports(request.name.removeprefix("operations/"), context)
        return operations_pb2.ListOperationsResponse(operations=[self.operation])

    def RenderReport(self, request, context):
        self.asked.append(request)
        if not request.title:
            named = [FieldViolation("title", "is required"), FieldViolation("sections", "there are 0")]
            refuse(context, InvalidArgument(named))
        return self.operation

    def GetReport(self, request, context):
        self.asked.append(request)
        return reports_pb2.Report(report_id=request.report_id, charts=2)

    def Subscribe(self, request, context):
        self.asked.append(request)
        if "no such service" in request.service:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        yield events_pb2.SubscribeResponse(cursor=request.cursor or "start")
        if not self.streams:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "no more")
        for event in self.streams.pop(0):
            yield events_pb2.SubscribeResponse(event=event, cursor=f"after {event.id}")
        context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway restarts")

    def ListQueues(self, request, context):
        self._only_reports(request.service, context)
        return admin_pb2.ListQueuesResponse(queues=[admin_pb2.Queue(name="reports.default", depth=3, paused=True)])

    def ListWorkers(self, request, context):
        self._only_reports(request.service, context)
        worker = admin_pb2.Worker(name="reports@host:7", pid=7, pool="prefork", concurrency=2, memory_bytes=1 << 20)
        return admin_pb2.ListWorkersResponse(workers=[worker])

    def PauseQueue(self, request, context):
        self.asked.append(request)
        return admin_pb2.Queue(name=request.queue, depth=3, paused=True)

    def ResumeQueue(self, request, context):
        self.asked.append(request)
        return admin_pb2.Queue(name=request.queue, depth=3)

    def PurgeQueue(self, request, context):
        self.asked.append(request)
        return admin_pb2.PurgeQueueResponse(cancelled=3)

    def SetConcurrency(self, request, context):
        self.asked.append(request)
        return admin_pb2.Worker(name=request.worker, concurrency=request.concurrency)

    def DrainWorker(self, request, context):
        self.asked.append(request)
        return admin_pb2.Worker(name=request.worker, draining=True, operations=[NAME])

    def CancelOperations(self, request, context):
        self.asked.append(request)
        self._only_reports(request.service, context)
        return admin_pb2.CancelOperationsResponse(cancelled=4, more=True)

    def GetOperationStats(self, request, context):
        self.asked.append(request)
        self._only_reports(request.service, context)
        ended = admin_pb2.OperationStats(
            task="reports.render_report", state="OPERATION_STATE_FAILED", count=2, attempts=9
        )
        ended.start_time.FromSeconds(1_700_000_040)
        ended.total.p95.FromMilliseconds(1_500)
        return admin_pb2.GetOperationStatsResponse(stats=[ended])

    def GetDeadLetter(self, request, context):
        letter = admin_pb2.DeadLetter(operation=request.operation, task="reports.render_report")
        letter.request.Pack(reports_pb2.RenderReportRequest(template_id="standard", title="Broken", facts={"a": "1"}))
        return letter

    def ReplayDeadLetters(self, request, context):
        self.asked.append(request)
        self._only_reports(request.service, context)
        names = [f"operations/reports/replay-{number}" for number in range(2)]
        return admin_pb2.ReplayDeadLettersResponse(operations=[an_operation("QUEUED", name=name) for name in names])

    def DiscardDeadLetters(self, request, context):
        self.asked.append(request)
        self._only_reports(request.service, context)
        return admin_pb2.DiscardDeadLettersResponse(discarded=5)

    def ListDeadLetters(self, request, context):
        self._only_reports(request.service, context)
        letter = admin_pb2.DeadLetter(operation=NAME, task="reports.render_report", attempts=5)
        letter.error.message = "no such metric"
        group = admin_pb2.DeadLetterGroup(group="reports.render_report/NO_METRIC", count=1)
        return admin_pb2.ListDeadLettersResponse(dead_letters=[letter], groups=[group], total=1)

    def ReplayDeadLetter(self, request, context):
        self.asked.append(request)
        return an_operation("QUEUED", name="operations/reports/replay")

    def DiscardDeadLetter(self, request, context):
        self.asked.append(request)
        return admin_pb2.DiscardDeadLetterResponse()


@pytest.fixture
def gateway():
    running = FakeGateway()
    yield running
    running.stop()
