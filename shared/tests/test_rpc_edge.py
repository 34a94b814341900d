"""The edge of a gateway, over real servers on loopback: errors, deadlines, limits, traces."""

import asyncio
import contextlib
import time
from datetime import timedelta

import grpc
import pytest
import redis.exceptions
from chassis import errors, rpc_spans, statuses, telemetry
from chassis.call import current_call
from chassis.rpc_server import RpcServer
from chassis.settings import WaybillSettings
from google.longrunning import operations_pb2, operations_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Reports(reports_pb2_grpc.ReportsServiceServicer):
    """Does in GetReport what the test asks for."""

    def __init__(self):
        self.act = None
        self.call = None

    async def GetReport(self, request, context):
        self.call = current_call.get()
        result = self.act()
        return (await result if asyncio.iscoroutine(result) else result) or reports_pb2.Report(report_id="r")

    async def DownloadReport(self, request, context):
        for number in range(3):
            yield reports_pb2.DownloadReportResponse(chunk=bytes([number]))


class Events(events_pb2_grpc.EventServiceServicer):
    async def Subscribe(self, request, context):
        yield events_pb2.SubscribeResponse(cursor="1")
        await asyncio.Event().wait()


class Stack:
    def __init__(self, reports, server, channel):
        self.reports, self.server, self.channel = reports, server, channel
        self.stub = reports_pb2_grpc.ReportsServiceStub(channel)
        self.events = events_pb2_grpc.EventServiceStub(channel)

    async def failure(self, act, **options):
        self.reports.act = act
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.stub.GetReport(reports_pb2.GetReportRequest(), **options)
        return raised.value


@contextlib.asynccontextmanager
async def serving(**settings):
    reports = Reports()
    server = RpcServer("reports", WaybillSettings(**settings))
    server.add(reports_pb2_grpc.add_ReportsServiceServicer_to_server, reports)
    server.add(events_pb2_grpc.add_EventServiceServicer_to_server, Events())
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Stack(reports, server, channel)
    await server.stop(0)


def details(error):
    return statuses.from_status(statuses.rpc_status(error))


def raising(error):
    def act():
        raise error

    return act


def occupy(seconds):
    """The thread does nothing else for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.fixture
def spans(monkeypatch):
    emitted = []
    monkeypatch.setattr(telemetry, "emit", emitted.append)
    return emitted


async def test_a_servicers_error_arrives_with_all_its_details():
    """Code, reason, metadata and every violation reach the client."""
    sent = errors.InvalidArgument(
        [errors.FieldViolation("title", "is empty"), errors.FieldViolation("format", "is unknown")],
        metadata={"k": "v"},
    )
    async with serving() as stack:
        failure = await stack.failure(raising(sent))

    got = details(failure)
    assert (got.code, got.reason, got.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "reports")
    assert got.violations == sent.violations
    assert got.metadata == {"k": "v"}


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (redis.exceptions.ConnectionError("refused"), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        (redis.exceptions.TimeoutError("silent"), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        (redis.exceptions.ResponseError("MISCONF disk"), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        (redis.exceptions.OutOfMemoryError("OOM"), grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"),
        (errors.Unavailable("gone", reason="GONE"), grpc.StatusCode.UNAVAILABLE, "GONE"),
    ],
)
async def test_what_passes_by_itself_says_when_to_come_again(error, code, reason):
    """UNAVAILABLE and RESOURCE_EXHAUSTED carry RetryInfo."""
    async with serving() as stack:
        got = details(await stack.failure(raising(error)))

    assert (got.code, got.reason) == (code, reason)
    assert got.retry_after > timedelta(0)


async def test_an_unforeseen_exception_tells_the_client_nothing_of_itself():
    """INTERNAL, without the exception's text, which is logged."""
    async with serving() as stack:
        failure = await stack.failure(raising(RuntimeError("hunter2")))

    assert failure.code() is grpc.StatusCode.INTERNAL
    assert details(failure).reason == "INTERNAL"
    assert "hunter2" not in str(failure)


async def test_a_method_without_a_body_is_unimplemented():
    """A servicer that does not override a method answers UNIMPLEMENTED with a reason."""
    async with serving() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.stub.ListReports(reports_pb2.ListReportsRequest())

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert details(raised.value).reason == "METHOD_NOT_IMPLEMENTED"


async def test_an_unknown_method_is_unimplemented():
    """A method of this service that does not exist, and one that no route leads to, are told apart from a fault."""
    async with serving() as stack:
        for method in ("/waybill.reports.v1.ReportsService/Burn", "/unheard.of/Thing"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stack.channel.unary_unary(method)(b"")
            assert details(raised.value).reason == "UNKNOWN_METHOD"


async def test_malformed_bytes_are_the_clients_error():
    """What is no message of the method's type is INVALID_ARGUMENT, not a crash."""
    async with serving() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.channel.unary_unary("/waybill.reports.v1.ReportsService/GetReport")(b"\x0a\xff")

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(raised.value).reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize("size", [2_000, 3 << 20])
async def test_a_payload_above_the_limit_is_told_the_limit(size):
    """Up to gRPC's own limit of 4 MiB the error is ours and names both sizes."""
    async with serving(max_payload_bytes=1_024) as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.stub.GetReport(reports_pb2.GetReportRequest(report_id="x" * size))

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(raised.value).reason == "PAYLOAD_TOO_LARGE"
    assert details(raised.value).metadata["limit_bytes"] == "1024"


async def test_a_payload_above_grpcs_limit_is_refused_by_grpc():
    """Beyond 4 MiB (or twice the payload limit) gRPC answers RESOURCE_EXHAUSTED before we see it."""
    async with serving(max_payload_bytes=1_024) as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stack.stub.GetReport(reports_pb2.GetReportRequest(report_id="x" * (5 << 20)))

    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_silent_backend_is_unavailable_before_the_callers_deadline():
    """The client gets UNAVAILABLE and RetryInfo, not its own DEADLINE_EXCEEDED."""
    async with serving() as stack:
        failure = await stack.failure(lambda: asyncio.Event().wait(), timeout=0.6)

    got = details(failure)
    assert (got.code, got.reason) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
    assert got.retry_after


async def test_an_answer_that_takes_its_time_comes_before_the_callers_deadline():
    """A gateway that is busy when a call is cut off, as on a machine with too much to do, answers all the same."""

    async def slow_to_end():
        try:
            await asyncio.Event().wait()
        finally:
            occupy(0.12)

    async with serving() as stack:
        failure = await stack.failure(slow_to_end, timeout=3)

    assert details(failure).code is grpc.StatusCode.UNAVAILABLE


async def test_a_call_without_a_deadline_gets_the_gateways(monkeypatch):
    """A client that sets no deadline does not hang for ever."""
    monkeypatch.setattr(rpc_spans, "DEFAULT_DEADLINE_SECONDS", 0.2)
    async with serving() as stack:
        failure = await stack.failure(lambda: asyncio.Event().wait())

    assert details(failure).reason == "BACKEND_UNAVAILABLE"


async def test_the_call_says_how_long_it_may_work():
    """What waits inside a call sees its deadline, a little before the caller's."""
    async with serving() as stack:
        stack.reports.act = lambda: None
        await stack.stub.GetReport(reports_pb2.GetReportRequest(), timeout=5)

        left = stack.reports.call.deadline - asyncio.get_running_loop().time()
        assert 4 < left < 5
        assert stack.reports.call.method == "waybill.reports.v1.ReportsService/GetReport"


async def test_a_stream_is_sent_whole():
    """Chunks of a streaming method arrive in order, and then the end."""
    async with serving() as stack:
        chunks = [answer.chunk async for answer in stack.stub.DownloadReport(reports_pb2.DownloadReportRequest())]

    assert chunks == [b"\x00", b"\x01", b"\x02"]


async def test_a_subscription_ends_when_the_gateway_drains():
    """Streams without an end do not hold up a drain: UNAVAILABLE, reason DRAINING."""
    async with serving() as stack:
        stream = stack.events.Subscribe(events_pb2.SubscribeRequest())
        assert (await stream.read()).cursor == "1"
        stopping = asyncio.create_task(stack.server.stop(30))

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stream.read()
        await asyncio.wait_for(stopping, 10)

    assert details(raised.value).reason == "DRAINING"


class LateCaller:
    """A server at which somebody arrives after the gateway has begun to drain, before the door is closed."""

    def __init__(self, server, arrive):
        self._server, self._arrive = server, arrive

    async def stop(self, grace):
        await self._arrive()
        await self._server.stop(grace)


async def test_a_subscription_that_begins_during_a_drain_is_ended_too():
    """It is told DRAINING at once, and neither holds the drain up nor is cut off at the end of the grace time."""
    streams = []

    async def arrive():
        streams.append(stack.events.Subscribe(events_pb2.SubscribeRequest()))
        assert (await streams[0].read()).cursor == "1"

    async with serving() as stack:
        server = stack.server._server
        stack.server._server = LateCaller(server, arrive)

        await asyncio.wait_for(stack.server.stop(30), 10)

        stack.server._server = server
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await streams[0].read()

    assert details(raised.value).reason == "DRAINING"


async def test_a_subscription_ends_at_its_callers_deadline():
    """A deadline that a client sets on a stream is its own, and no outage of ours."""
    async with serving() as stack:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stack.events.Subscribe(events_pb2.SubscribeRequest(), timeout=0.5):
                pass

    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_running_call_finishes_while_the_gateway_drains():
    """A drain lets what was begun end."""
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow():
        begun.set()
        await finish.wait()

    async with serving() as stack:
        stack.reports.act = slow
        answer = asyncio.ensure_future(stack.stub.GetReport(reports_pb2.GetReportRequest()))
        await begun.wait()
        stopping = asyncio.create_task(stack.server.stop(30))
        finish.set()

        assert (await answer).report_id == "r"
        await stopping


async def test_an_rpc_is_a_server_span_below_the_callers(spans):
    """The client's trace context is continued; code and method are attributes."""
    async with serving() as stack:
        stack.reports.act = lambda: None
        await stack.stub.GetReport(reports_pb2.GetReportRequest(), metadata=(("traceparent", PARENT),))

    (span,) = spans
    assert span.name == "waybill.reports.v1.ReportsService/GetReport"
    assert span.kind == telemetry.SERVER
    assert (span.context.trace_id.hex(), span.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert span.attributes["rpc.grpc.status_code"] == 0
    assert span.attributes["rpc.service"] == "waybill.reports.v1.ReportsService"
    assert not span.error


async def test_only_the_servers_faults_are_errors_of_the_span(spans):
    """NOT_FOUND is the client's; UNAVAILABLE is ours (OpenTelemetry's conventions)."""
    async with serving() as stack:
        await stack.failure(raising(errors.NotFound()))
        await stack.failure(raising(errors.Unavailable()))

    assert [(span.attributes["rpc.grpc.status_code"], span.error) for span in spans] == [(5, ""), (14, "UNAVAILABLE")]


async def test_a_projected_call_is_not_a_second_span(spans):
    """The engine projects the accepting RPC; the edge then leaves it alone."""
    async with serving() as stack:
        stack.reports.act = lambda: setattr(stack.reports.call, "projected", True)
        await stack.stub.GetReport(reports_pb2.GetReportRequest())

    assert spans == []


async def test_a_cancelled_subscription_is_no_span(spans):
    """Long polls are spans only when they fail, and a client that leaves is no failure."""
    async with serving() as stack:
        stream = stack.events.Subscribe(events_pb2.SubscribeRequest())
        await stream.read()
        stream.cancel()

    assert spans == []


async def test_a_long_poll_has_the_callers_deadline():
    """WaitOperation is bounded by nothing but the caller."""
    seen = []

    class Operations(operations_pb2_grpc.OperationsServicer):
        async def WaitOperation(self, request, context):
            seen.append(current_call.get().deadline)
            return operations_pb2.Operation(name=request.name)

    server = RpcServer("reports", WaybillSettings())
    server.add(operations_pb2_grpc.add_OperationsServicer_to_server, Operations())
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        answer = await stub.WaitOperation(operations_pb2.WaitOperationRequest(name="operations/reports/1"))
    await server.stop(0)

    assert answer.name == "operations/reports/1"
    assert seen == [float("inf")]


async def test_a_thousand_violations_arrive():
    """The cut status really passes a stock client's limits."""
    violations = [errors.FieldViolation(f"samples[{n}].value", "muß endlich sein") for n in range(1_000)]
    async with serving() as stack:
        failure = await stack.failure(raising(errors.InvalidArgument(violations)))

    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(details(failure).violations) > 40
