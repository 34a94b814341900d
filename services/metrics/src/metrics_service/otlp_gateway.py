"""The door for OpenTelemetry exporters: the standard OTLP metrics service."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc
from chassis.operations import Operations
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from waybill.metrics.v1 import internal_pb2

from metrics_service import otlp, tasks

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class OtlpServicer(metrics_service_pb2_grpc.MetricsServiceServicer):
    """An export that is answered has been accepted; the sender may forget it."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def Export(self, request: ExportMetricsServiceRequest, _context: Context) -> ExportMetricsServiceResponse:
        decoded = await asyncio.to_thread(otlp.decode, request, datetime.now(UTC))
        if decoded.samples:
            export = request.SerializeToString(deterministic=True)
            # An exporter that got no answer sends the same bytes again: they are one operation.
            request_id = hashlib.sha256(export).hexdigest()
            await self.operations.accept(
                tasks.ingest_export, internal_pb2.IngestExport(export=export), request_id=request_id
            )
        return _answer(decoded)


def _answer(decoded: otlp.Decoded) -> ExportMetricsServiceResponse:
    if not decoded.rejected:
        return ExportMetricsServiceResponse()
    partial = ExportMetricsPartialSuccess(rejected_data_points=decoded.rejected, error_message=decoded.explanation())
    return ExportMetricsServiceResponse(partial_success=partial)
