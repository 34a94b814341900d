"""Servicers over `FakeService` of what concerns many operations at once, and of alerts."""

from collections import defaultdict
from typing import Any

from google.rpc import code_pb2
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from services.dashboard.tests import fake_filters
from services.dashboard.tests.fake_service import FINAL, Refused, Servicer, a_status


class OperationAdmin(Servicer, admin_pb2_grpc.OperationServiceServicer):
    async def CancelOperations(self, request: Any, context: Any) -> Any:
        if not request.filter:
            raise Refused(a_status(code_pb2.INVALID_ARGUMENT, "no filter", "INVALID_REQUEST", filter="is required"))
        wanted = fake_filters.parse(request.filter)
        live = [each for each in self.service.kept.values() if each.metadata.state not in FINAL and wanted(each)]
        chosen = live[: request.limit or 1000]
        for each in chosen:
            self.service.cancel(each)
        return admin_pb2.CancelOperationsResponse(cancelled=len(chosen), more=len(live) > len(chosen))

    async def GetOperationStats(self, request: Any, context: Any) -> Any:
        self.gateway.received.append(request)
        wanted = fake_filters.parse(request.filter)
        step = (request.step.seconds or 60) * 10**9
        begin, end = request.start_time.ToNanoseconds(), request.end_time.ToNanoseconds()
        groups: dict[tuple[int, str, int], list[Any]] = defaultdict(list)
        for each in self.service.kept.values():
            ended = each.metadata.end_time.ToNanoseconds()
            if each.metadata.state in FINAL and begin <= ended < end and wanted(each):
                groups[ended // step * step, each.metadata.task, each.metadata.state].append(each.metadata)
        answer = admin_pb2.GetOperationStatsResponse()
        for (start, task, state), members in sorted(groups.items()):
            stats = answer.stats.add(task=task, state=state, count=len(members))
            stats.attempts = sum(each.attempt for each in members)
            stats.start_time.FromNanoseconds(start)
            took = sorted(each.end_time.ToNanoseconds() - each.create_time.ToNanoseconds() for each in members)
            for name, value in (("p50", took[len(took) // 2]), ("p95", took[-1 - len(took) // 20]), ("max", took[-1])):
                getattr(stats.total, name).FromNanoseconds(value)
            stats.total.mean.FromNanoseconds(sum(took) // len(took))
        return answer


class Metrics(Servicer, metrics_pb2_grpc.MetricsServiceServicer):
    async def ListAlerts(self, request: Any, context: Any) -> Any:
        alerts = [each for each in reversed(self.gateway.alerts) if request.state in {0, each.state}]
        return metrics_pb2.ListAlertsResponse(alerts=alerts)
