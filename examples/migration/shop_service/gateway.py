"""The gRPC door of shop."""

from __future__ import annotations

from typing import Any

from chassis import roles
from chassis.operations import Operations
from chassis.rpc import Gateway
from google.longrunning import operations_pb2
from google.protobuf.struct_pb2 import Struct

from shop_service import contract, tasks
from shop_service.app import app
from shop_service.settings import ShopSettings


class ShopServicer:
    """Accepts charges."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def ChargeCard(self, request: Struct, _context: Any) -> operations_pb2.Operation:
        payload = contract.struct(order=request["order"], cents=request["cents"])
        return await self.operations.accept(tasks.charge_card, payload, request_id=request["request_id"])


def serve(settings: ShopSettings) -> int:
    """Serve until told to end."""
    gateway = Gateway(app, settings)
    gateway.add(contract.add_servicer, ShopServicer(gateway.operations), roles.SUBMITTERS)
    return gateway.run()
