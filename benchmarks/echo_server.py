"""The baseline of a unary accept: a bare grpc.aio server that answers IngestSamples with a ready operation."""

import asyncio
import sys

import grpc
from google.longrunning import operations_pb2
from waybill.metrics.v1 import metrics_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops


class Echo(metrics_pb2_grpc.MetricsServiceServicer):
    """Reads the request and answers with an operation of the usual size; no store, no validation."""

    async def IngestSamples(self, request, context):  # noqa: ANN001, ANN201
        operation = operations_pb2.Operation(name="operations/metrics/01a207b0-e99f-72da-8b3d-b9ca29811aa3")
        metadata = ops.OperationMetadata(
            state=ops.OPERATION_STATE_QUEUED,
            task="metrics.ingest_samples",
            queue="metrics.ingest",
            priority=ops.PRIORITY_NORMAL,
            max_attempts=5,
            trace_id="d8f10a3d2be6d6ba3f8b28d3c7222833",
        )
        metadata.request.Pack(request)
        operation.metadata.Pack(metadata)
        return operation


Echo.__abstractmethods__ = frozenset()


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(Echo(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
