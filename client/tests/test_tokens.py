"""A client's token is on every call, and crosses no network in the open."""

import asyncio
from concurrent import futures

import grpc
import pytest
import waybill_client
from google.longrunning import operations_pb2, operations_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill_client import aio

NAME = "operations/reports/1"


class Asked(operations_pb2_grpc.OperationsServicer, events_pb2_grpc.EventServiceServicer):
    """Answers who knows the token."""

    def GetOperation(self, request, context):
        self.check(context)
        return operations_pb2.Operation(name=request.name)

    def Subscribe(self, request, context):
        self.check(context)
        yield events_pb2.SubscribeResponse(cursor="1", event=events_pb2.Event(id="e"))

    def check(self, context):
        if ("authorization", "Bearer wbt_secret") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")


@pytest.fixture
def address():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    servicer = Asked()
    operations_pb2_grpc.add_OperationsServicer_to_server(servicer, server)
    events_pb2_grpc.add_EventServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_the_token_is_on_calls_and_streams(address):
    """In blocking code."""
    with waybill_client.connect(address, token="wbt_secret") as client:
        assert client.operation(NAME).refresh().name == NAME
        stub = events_pb2_grpc.EventServiceStub(client.channel)
        assert next(stub.Subscribe(events_pb2.SubscribeRequest())).event.id == "e"


def test_the_token_is_on_calls_and_streams_of_asyncio(address):
    """As in blocking code."""

    async def ask():
        async with aio.connect(address, token="wbt_secret") as client:
            stub = events_pb2_grpc.EventServiceStub(client.channel)
            seen = [answer.event.id async for answer in stub.Subscribe(events_pb2.SubscribeRequest())]
            return (await client.operation(NAME).refresh()).name, seen

    assert asyncio.run(ask()) == (NAME, ["e"])


def test_without_it_a_client_is_told_so(address):
    """UNAUTHENTICATED is an error of its own."""
    with waybill_client.connect(address) as client, pytest.raises(waybill_client.Unauthenticated):
        client.operation(NAME).refresh()


def test_a_token_needs_tls_beyond_this_machine():
    """Unless the caller says that it may go in the open; it is not in what is printed of a connection."""
    for host in ("10.1.2.3:1", "depot.example:1", "[2001:db8::1]:1"):
        with pytest.raises(ValueError, match="without TLS") as raised:
            waybill_client.connect(host, token="wbt_secret")
        assert "wbt_secret" not in str(raised.value)

    with waybill_client.connect("depot.example:1", token="wbt_secret", plaintext=True) as client:
        assert "wbt_secret" not in repr(client.settings)
    for host in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
        waybill_client.connect(host, token="wbt_secret").close()
