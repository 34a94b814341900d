"""The gRPC door of seedling."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc
from chassis.errors import Violations
from chassis.operations import Operations
from chassis.rpc import Gateway
from google.longrunning import operations_pb2
from waybill.seedling.v1 import seedling_pb2, seedling_pb2_grpc

from seedling_service import tasks
from seedling_service.app import app
from seedling_service.settings import SeedlingSettings

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
MAX_TEXT = 10_000


class SeedlingServicer(seedling_pb2_grpc.SeedlingServiceServicer):
    """Checks what it is given, and accepts it."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def ProcessItem(
        self, request: seedling_pb2.ProcessItemRequest, _context: Context
    ) -> operations_pb2.Operation:
        violations = Violations()
        length = len(request.text)
        violations.require(1 <= length <= MAX_TEXT, "text", f"has {length} characters; expected 1 to {MAX_TEXT}")
        violations.raise_if_any()
        return await self.operations.accept(tasks.process_item, request)


def serve(settings: SeedlingSettings) -> int:
    """Serve until told to end."""
    gateway = Gateway(app, settings)
    gateway.add(seedling_pb2_grpc.add_SeedlingServiceServicer_to_server, SeedlingServicer(gateway.operations))
    return gateway.run()
