"""The gRPC door of reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from chassis import paging
from chassis.errors import NotFound, OutOfRange, Violations
from chassis.operations import Operations
from chassis.rpc import Gateway
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

from reports_service import requests, store, tasks
from reports_service.app import app
from reports_service.artifacts import Artifact, Artifacts
from reports_service.settings import ReportsSettings
from reports_service.store import Reports

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ReportsServicer(reports_pb2_grpc.ReportsServiceServicer):
    """Schedules are not served yet: the generated methods answer UNIMPLEMENTED."""

    def __init__(self, operations: Operations, reports: Reports, artifacts: Artifacts) -> None:
        self.operations = operations
        self.reports = reports
        self.artifacts = artifacts

    async def RenderReport(
        self, request: reports_pb2.RenderReportRequest, _context: Context
    ) -> operations_pb2.Operation:
        requests.parse(request)
        return await self.operations.accept(tasks.render_report, request)

    async def GetReport(self, request: reports_pb2.GetReportRequest, _context: Context) -> reports_pb2.Report:
        return await self._report(request.report_id)

    async def ListReports(
        self, request: reports_pb2.ListReportsRequest, _context: Context
    ) -> reports_pb2.ListReportsResponse:
        page = paging.page(request, int, str)
        found = await asyncio.to_thread(self.reports.page, page.size + 1, page.after)
        listed = found[: page.size]
        last = (listed[-1].create_time.ToMicroseconds(), listed[-1].report_id) if len(found) > page.size else ()
        return reports_pb2.ListReportsResponse(reports=listed, next_page_token=paging.encode(last))

    async def DeleteReport(self, request: reports_pb2.DeleteReportRequest, _context: Context) -> Empty:
        report = await self._report(request.report_id)
        await asyncio.to_thread(self.reports.delete, report.report_id)
        await asyncio.to_thread(self.artifacts.remove, report.location)
        return Empty()

    async def DownloadReport(
        self, request: reports_pb2.DownloadReportRequest, _context: Context
    ) -> AsyncIterator[reports_pb2.DownloadReportResponse]:
        violations = Violations()
        violations.require(request.offset >= 0, "offset", "is negative; expected 0 or a byte of the report")
        report = await self._report(request.report_id, violations)
        if request.offset > report.size_bytes:
            raise OutOfRange(
                f"offset {request.offset} lies behind the end: the report has {report.size_bytes} bytes",
                reason="OFFSET_OUT_OF_RANGE",
                metadata={"size_bytes": str(report.size_bytes)},
            )
        artifact = Artifact(report.location, report.size_bytes, report.sha256)
        chunks = self.artifacts.chunks(artifact, request.offset)
        first = await asyncio.to_thread(next, chunks, b"")
        yield reports_pb2.DownloadReportResponse(report=report, chunk=first)
        while chunk := await asyncio.to_thread(next, chunks, b""):
            yield reports_pb2.DownloadReportResponse(chunk=chunk)

    async def _report(self, report_id: str, violations: Violations | None = None) -> reports_pb2.Report:
        found = violations or Violations()
        found.require(report_id, "report_id", "is required")
        found.raise_if_any()
        report = await asyncio.to_thread(self.reports.find, report_id)
        if report is None:
            raise NotFound(
                f"report {report_id!r} does not exist", reason="REPORT_NOT_FOUND", metadata={"report_id": report_id}
            )
        return report


def serve(settings: ReportsSettings) -> int:
    """Serve until told to end."""
    gateway = Gateway(app, settings)
    # The generated methods of schedules are abstract to the type checker alone.
    servicer = ReportsServicer(  # type: ignore[abstract]
        gateway.operations, store.reports(), Artifacts(settings.artifact_folder)
    )
    gateway.add(reports_pb2_grpc.add_ReportsServiceServicer_to_server, servicer)
    return gateway.run()
