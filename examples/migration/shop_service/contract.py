"""One method, ChargeCard. It takes a Struct; a service of yours has a contract, from `make new-service`."""

from __future__ import annotations

from typing import Any

import grpc
from google.longrunning import operations_pb2
from google.protobuf.struct_pb2 import Struct

SERVICE = "waybill.shop.v1.ShopService"


def struct(**fields: object) -> Struct:
    """A Struct of these fields."""
    made = Struct()
    made.update(fields)
    return made


class ShopStub:
    """What a client calls."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.ChargeCard = channel.unary_unary(
            f"/{SERVICE}/ChargeCard",
            request_serializer=Struct.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )


def add_servicer(servicer: Any, server: Any) -> None:
    """Serve it."""
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.ChargeCard,
        request_deserializer=Struct.FromString,
        response_serializer=operations_pb2.Operation.SerializeToString,
    )
    server.add_registered_method_handlers(SERVICE, {"ChargeCard": handler})
