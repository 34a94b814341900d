"""One method, Submit: it takes Work, and accepts it for the task that it names."""

import grpc
from chassis import roles
from chassis.rpc import Gateway
from google.longrunning import operations_pb2

from chaos_service.app import app
from chaos_service.contract import Work

SERVICE = "waybill.chaos.v1.ChaosService"


class ChaosServicer:
    def __init__(self, operations):
        self._operations = operations

    async def Submit(self, request, context):
        return await self._operations.accept(app.operation_tasks[request.task], request, request_id=request.request_id)


def register(servicer, server):
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.Submit,
        request_deserializer=Work.FromString,
        response_serializer=operations_pb2.Operation.SerializeToString,
    )
    server.add_registered_method_handlers(SERVICE, {"Submit": handler})


class ChaosStub:
    def __init__(self, channel):
        self.Submit = channel.unary_unary(
            f"/{SERVICE}/Submit",
            request_serializer=Work.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )


def serve(settings):
    from chaos_service import tasks  # noqa: F401, PLC0415 (registers them)

    gateway = Gateway(app, settings)
    gateway.add(register, ChaosServicer(gateway.operations), roles.SUBMITTERS)
    return gateway.run()
