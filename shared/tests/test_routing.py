"""Any gateway routes: two real gateways on loopback, and calls that go through one to the other."""

import asyncio
import contextlib

import grpc
import pytest
from chassis import statuses, telemetry
from chassis.errors import NotFound
from chassis.routing import service_of_name, text_field
from chassis.rpc_server import RpcServer
from chassis.settings import WaybillSettings
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOBODY = "127.0.0.1:1"


class Reports(reports_pb2_grpc.ReportsServiceServicer):
    def __init__(self):
        self.metadata, self.remaining = {}, None
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    def _note(self, context):
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()

    async def _never(self):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def GetReport(self, request, context):
        self._note(context)
        if request.report_id == "none":
            context.set_trailing_metadata((("waybill-hint", "try another"),))
            raise NotFound("none does not exist", reason="REPORT_NOT_FOUND", metadata={"report_id": "none"})
        if request.report_id == "slow":
            await self._never()
        await context.send_initial_metadata((("waybill-early", "1"),))
        context.set_trailing_metadata((("waybill-late", "2"), ("bytes-bin", b"\x00\xff")))
        return reports_pb2.Report(report_id=request.report_id)

    async def DownloadReport(self, request, context):
        for number in range(3):
            yield reports_pb2.DownloadReportResponse(chunk=bytes([number]))


class Shared(
    operations_pb2_grpc.OperationsServicer,
    events_pb2_grpc.EventServiceServicer,
    admin_pb2_grpc.QueueServiceServicer,
):
    """What every gateway serves; answers say who they are."""

    def __init__(self, service):
        self.service = service

    async def GetOperation(self, request, context):
        return operations_pb2.Operation(name=f"{self.service} has {request.name}")

    async def ListOperations(self, request, context):
        context.set_trailing_metadata((("waybill-cursor", "7"),))
        return operations_pb2.ListOperationsResponse(next_page_token=self.service)

    async def Subscribe(self, request, context):
        yield events_pb2.SubscribeResponse(cursor=self.service)
        yield events_pb2.SubscribeResponse(cursor="more")
        if request.types:
            await asyncio.Event().wait()

    async def ListQueues(self, request, context):
        return admin_pb2.ListQueuesResponse(queues=[admin_pb2.Queue(name=self.service)])


class Pair:
    """`notify` in front, `reports` behind it."""

    def __init__(self, channel, reports, front, owner):
        self.channel, self.reports, self.front, self.owner = channel, reports, front, owner
        self.stub = reports_pb2_grpc.ReportsServiceStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)


async def started(service, routes, *register):
    server = RpcServer(service, WaybillSettings(routes=routes))
    shared = Shared(service)
    for add in (
        operations_pb2_grpc.add_OperationsServicer_to_server,
        events_pb2_grpc.add_EventServiceServicer_to_server,
        admin_pb2_grpc.add_QueueServiceServicer_to_server,
    ):
        server.add(add, shared)
    for add, servicer in register:
        server.add(add, servicer)
    server.add_reflection()
    return server, await server.start("127.0.0.1:0")


@contextlib.asynccontextmanager
async def pair(**more_routes):
    reports = Reports()
    others = {key: target for key, target in more_routes.items() if "." not in key}
    owner, owner_port = await started(
        "reports", others, (reports_pb2_grpc.add_ReportsServiceServicer_to_server, reports)
    )
    routes = {"reports": f"127.0.0.1:{owner_port}", **more_routes}
    front, port = await started("notify", routes)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Pair(channel, reports, front, owner)
    await front.stop(0)
    await owner.stop(0)


@pytest.fixture
def spans(monkeypatch):
    emitted = []
    monkeypatch.setattr(telemetry, "emit", emitted.append)
    return emitted


def error_of(raised):
    return statuses.from_status(statuses.rpc_status(raised.value))


async def test_a_call_reaches_its_owner_and_its_answer_the_client():
    """Request, answer, and the metadata of both directions pass the gateway between."""
    async with pair() as both:
        call = both.stub.GetReport(
            reports_pb2.GetReportRequest(report_id="r1"),
            metadata=(("authorization", "Bearer t"), ("x-own", "t"), ("x-own-bin", b"\x00\x01")),
        )

        assert (await call).report_id == "r1"
        assert ("waybill-early", "1") in tuple(await call.initial_metadata())
        assert {("waybill-late", "2"), ("bytes-bin", b"\x00\xff")} <= set(await call.trailing_metadata())
    assert both.reports.metadata["x-own"] == "t"
    assert "authorization" not in both.reports.metadata
    assert both.reports.metadata["x-own-bin"] == b"\x00\x01"
    assert both.reports.metadata["waybill-forwarded"] == "notify"


async def test_a_stream_passes():
    """A server stream of another service arrives whole."""
    async with pair() as both:
        answers = both.stub.DownloadReport(reports_pb2.DownloadReportRequest(report_id="r"))

        assert [answer.chunk async for answer in answers] == [b"\x00", b"\x01", b"\x02"]


async def test_an_error_arrives_as_the_owner_sent_it():
    """Code, message, rich details and the servicer's own trailing metadata are the owner's."""
    async with pair() as both:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await both.stub.GetReport(reports_pb2.GetReportRequest(report_id="none"))

    error = error_of(raised)
    assert raised.value.details() == "none does not exist"
    assert (error.code, error.reason, error.domain) == (grpc.StatusCode.NOT_FOUND, "REPORT_NOT_FOUND", "reports")
    assert error.metadata == {"report_id": "none"}


async def test_the_owner_gets_what_is_left_of_the_deadline():
    """The caller's deadline goes on, a little shorter."""
    async with pair() as both:
        await both.stub.GetReport(reports_pb2.GetReportRequest(report_id="r"), timeout=5)

    assert 3.5 < both.reports.remaining < 5


async def test_a_slow_owner_is_answered_for_within_the_deadline():
    """The client gets a Status with RetryInfo before its own deadline passes."""
    async with pair() as both:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await both.stub.GetReport(reports_pb2.GetReportRequest(report_id="slow"), timeout=4)

    error = error_of(raised)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
    assert error.retry_after


async def test_an_owner_that_is_down_is_unavailable():
    """UNAVAILABLE, reason OWNER_UNAVAILABLE, with RetryInfo and the owner's name; the gateway itself goes on."""
    async with pair(metrics=NOBODY) as both:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await both.operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/metrics/1"))
        own = await both.operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/notify/1"))

    error = error_of(raised)
    assert (error.code, error.reason, error.metadata) == (
        grpc.StatusCode.UNAVAILABLE,
        "OWNER_UNAVAILABLE",
        {"service": "metrics"},
    )
    assert error.retry_after
    assert own.name == "notify has operations/notify/1"


async def test_an_owner_that_comes_back_is_found_again():
    """Forwarding recovers by itself within seconds."""
    async with pair() as both:
        request = reports_pb2.GetReportRequest(report_id="r")
        port = int(both.front.channels.target("reports").rpartition(":")[2])
        await both.owner.stop(0)
        with pytest.raises(grpc.aio.AioRpcError):
            await both.stub.GetReport(request)

        again = RpcServer("reports", WaybillSettings(routes={}))
        again.add(reports_pb2_grpc.add_ReportsServiceServicer_to_server, both.reports)
        await again.start(f"127.0.0.1:{port}")
        channel = both.front.channels.asynchronous("reports", bare=True)
        while channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
            await asyncio.wait_for(channel.wait_for_state_change(channel.get_state()), 10)

        assert (await both.stub.GetReport(request)).report_id == "r"
        await again.stop(0)


async def test_a_call_takes_one_hop():
    """Gateways that send a call in circles answer FAILED_PRECONDITION, reason ROUTING_LOOP."""
    async with pair() as both:
        own_port = both.front.channels.target("reports")
        mistaken, port = await started("metrics", {"reports": NOBODY})
        front, front_port = await started("notify", {"reports": f"127.0.0.1:{port}"})
        async with grpc.aio.insecure_channel(f"127.0.0.1:{front_port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await reports_pb2_grpc.ReportsServiceStub(channel).GetReport(reports_pb2.GetReportRequest())
        await front.stop(0)
        await mistaken.stop(0)

    assert own_port
    error = error_of(raised)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ROUTING_LOOP")
    assert error.domain == "metrics"


@pytest.mark.parametrize(
    ("name", "answerer"),
    [("operations/notify/1", "notify"), ("operations/reports/1", "reports"), ("nonsense", "notify"), ("", "notify")],
)
async def test_an_operation_is_looked_up_where_it_lives(name, answerer):
    """The name says whose it is; a name that says nothing is the gateway's own to refuse."""
    async with pair() as both:
        operation = await both.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))

    assert operation.name == f"{answerer} has {name}"


async def test_a_list_of_operations_is_of_the_service_named():
    """ListOperations names the service in a field of another number; its cursor comes back too."""
    async with pair() as both:
        call = both.operations.ListOperations(
            operations_pb2.ListOperationsRequest(name="operations/reports", filter="operations/notify/x")
        )
        assert (await call).next_page_token == "reports"
        assert ("waybill-cursor", "7") in tuple(await call.trailing_metadata())
        own = await both.operations.ListOperations(operations_pb2.ListOperationsRequest())
        assert own.next_page_token == "notify"


async def test_shared_services_go_to_the_service_in_the_request():
    """Events and administration of any service are reached through any gateway."""
    async with pair() as both:
        queues = admin_pb2_grpc.QueueServiceStub(both.channel)
        events = events_pb2_grpc.EventServiceStub(both.channel)

        for service, answerer in (("", "notify"), ("notify", "notify"), ("reports", "reports")):
            listed = await queues.ListQueues(admin_pb2.ListQueuesRequest(service=service))
            assert listed.queues[0].name == answerer
            stream = events.Subscribe(events_pb2.SubscribeRequest(service=service))
            assert [answer.cursor async for answer in stream] == [answerer, "more"]


async def test_a_forwarded_stream_ends_at_its_callers_deadline():
    """The owner being there, a subscription's deadline is the client's own."""
    async with pair() as both:
        stub = events_pb2_grpc.EventServiceStub(both.channel)
        request = events_pb2.SubscribeRequest(service="reports", types=["waybill.reports.*"])
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stub.Subscribe(request, timeout=1):
                pass

    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_service_that_nobody_knows_is_not_found():
    """An operation of, or a question about, an unknown service is NOT_FOUND and names those that there are."""
    async with pair() as both:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await both.operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/nowhere/1"))

    error = error_of(raised)
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SERVICE")
    assert "notify, reports" in error.message


async def test_the_hop_is_in_the_trace(spans):
    """SERVER here, CLIENT to the owner below it, the owner's SERVER below that."""
    async with pair() as both:
        await both.stub.GetReport(reports_pb2.GetReportRequest(report_id="r"), metadata=(("traceparent", PARENT),))

    owner, client, front = spans
    assert [span.kind for span in (front, client, owner)] == [telemetry.SERVER, telemetry.CLIENT, telemetry.SERVER]
    assert {span.context.trace_id.hex() for span in spans} == {PARENT[3:35]}
    assert front.parent_span_id.hex() == PARENT[36:52]
    assert client.parent_span_id == front.context.span_id
    assert owner.parent_span_id == client.context.span_id


async def test_a_client_that_leaves_is_left_by_the_owner_too():
    """Cancelling a forwarded call cancels it at the owner."""
    async with pair() as both:
        call = both.stub.GetReport(reports_pb2.GetReportRequest(report_id="slow"))
        await both.reports.begun.wait()
        call.cancel()

        await asyncio.wait_for(both.reports.cancelled.wait(), 10)


async def test_reflection_describes_what_is_forwarded():
    """Through any gateway a stock client lists its own services and everybody's, and finds their files."""
    async with pair(**{"opentelemetry.proto.collector.metrics.v1": "reports"}) as both:
        stub = reflection_pb2_grpc.ServerReflectionStub(both.channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="waybill.reports.v1.ReportsService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="google.longrunning.Operations.GetOperation"),
        ]
        listed, file, method = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]

    names = {service.name for service in listed.list_services_response.service}
    assert names >= {
        "google.longrunning.Operations",
        "grpc.reflection.v1alpha.ServerReflection",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        "waybill.events.v1.EventService",
        "waybill.reports.v1.ReportsService",
    }
    assert file.file_descriptor_response.file_descriptor_proto
    assert method.file_descriptor_response.file_descriptor_proto


async def test_newer_reflection_clients_are_answered_too():
    """v1 has the messages of v1alpha."""
    async with pair() as both:
        call = both.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = [a async for a in call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))]

    assert answer.list_services_response.service


@given(st.text(max_size=40), st.text(max_size=300), st.integers(0, 2**31 - 1), st.text(max_size=40))
def test_a_field_is_found_without_parsing_the_message(name, filter_, size, token):
    """The scan agrees with protobuf, whatever else the message holds."""
    request = operations_pb2.ListOperationsRequest(name=name, filter=filter_, page_size=size, page_token=token)

    assert text_field(request.SerializeToString(), 4) == name
    assert text_field(request.SerializeToString(), 1) == filter_


@given(st.binary(max_size=60))
def test_malformed_bytes_name_no_service(data):
    """The scan ends on any input, and whoever parses it complains."""
    text_field(data, 1)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("operations/reports/0190", "reports"),
        ("operations/reports", "reports"),
        ("operations/", ""),
        ("operations", ""),
        ("reports/1", ""),
        ("", ""),
    ],
)
def test_a_name_says_whose_operation_it_is(name, service):
    """`operations/{service}/...`, and nothing else."""
    assert service_of_name(name) == service
