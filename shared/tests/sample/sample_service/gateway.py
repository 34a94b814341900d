"""One method: Submit takes the task's name, its payload, and a request_id."""

import grpc
from chassis import roles
from chassis.rpc import Gateway
from google.longrunning import operations_pb2
from google.protobuf.struct_pb2 import Struct

from sample_service.app import app

SERVICE = "waybill.sample.v1.SampleService"


class SampleServicer:
    def __init__(self, operations):
        self._operations = operations

    async def Submit(self, request, context):
        task = app.operation_tasks[request["task"]]
        return await self._operations.accept(task, request["payload"], request_id=request["request_id"])


def register(servicer, server):
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.Submit,
        request_deserializer=Struct.FromString,
        response_serializer=operations_pb2.Operation.SerializeToString,
    )
    server.add_registered_method_handlers(SERVICE, {"Submit": handler})


class SampleStub:
    def __init__(self, channel):
        self.Submit = channel.unary_unary(
            f"/{SERVICE}/Submit",
            request_serializer=Struct.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )


def serve(settings):
    from sample_service import tasks  # noqa: F401, PLC0415 (registers them)

    gateway = Gateway(app, settings)
    gateway.add(register, SampleServicer(gateway.operations), roles.SUBMITTERS)
    return gateway.run()
