"""Gateways in memory: real gRPC servers over `FakeService`, one port a service, all on one thread's event loop.

They hold to what the contracts say of the RPCs that the dashboard calls. Run as a program they simulate work:
`python -m services.dashboard.tests.fake_gateway` prints the WAYBILL_ROUTES to start a dashboard with.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, Self

import grpc
from chassis.statuses import STATUS_DETAILS_KEY, status_code
from google.longrunning import operations_pb2_grpc
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waybill.admin.v1 import admin_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from waybill.notify.v1 import notify_pb2_grpc
from waybill.reports.v1 import reports_pb2_grpc

from services.dashboard.tests import fake_admin, fake_servicers
from services.dashboard.tests.fake_service import FakeService, Refused

TASKS = {
    "metrics": {"metrics.apply_samples": "metrics.ingest", "metrics.evaluate_rules": "metrics.rules"},
    "notify": {
        "notify.send_notification": "notify.default",
        "notify.deliver_mail": "notify.mail",
        "notify.deliver_webhook": "notify.webhook",
    },
    "reports": {"reports.render_report": "reports.default", "reports.render_bulk": "reports.bulk"},
}
HEARTBEAT_SECONDS = 15.0


class FakeGateway:
    """One service's server."""

    def __init__(self, name: str) -> None:
        self.service = FakeService(name, TASKS[name])
        self.health = health_pb2.HealthCheckResponse.SERVING
        self.received: list[Any] = []
        self.metadata: dict[str, Any] = {}
        self.alerts: list[metrics_pb2.Alert] = []
        self.subscriptions = 0
        self.letters_listed = self.queues_listed = self.workers_listed = 0
        self.generation = 0
        self.target = ""
        self._server: Any = None

    @property
    def cursor(self) -> str:
        return f"{len(self.service.log)}-0"

    def rate(self, queue: str, verb: str) -> float:
        """Over the last ten seconds."""
        since = self.service.clock().timestamp() - 10
        count = 0
        for event in reversed(self.service.log):
            if event.time.seconds < since:
                break
            change = events_pb2.OperationChanged()
            count += event.type.endswith(verb) and event.data.Unpack(change) and change.queue == queue
        return count / 10

    def has_news(self, position: int, generation: int) -> bool:
        return len(self.service.log) > position or self.generation != generation

    async def start(self, address: str = "127.0.0.1:0", without: tuple[str, ...] = ()) -> None:
        """`without` names services that it does not have."""
        self._server = grpc.aio.server(interceptors=[_Refusals()], options=(("grpc.so_reuseport", 0),))
        operations_pb2_grpc.add_OperationsServicer_to_server(fake_servicers.Operations(self), self._server)
        events_pb2_grpc.add_EventServiceServicer_to_server(fake_servicers.Events(self), self._server)
        if "queues" not in without:
            admin_pb2_grpc.add_QueueServiceServicer_to_server(fake_servicers.Queues(self), self._server)
        admin_pb2_grpc.add_WorkerServiceServicer_to_server(fake_servicers.Workers(self), self._server)
        admin_pb2_grpc.add_DeadLetterServiceServicer_to_server(fake_servicers.DeadLetters(self), self._server)
        admin_pb2_grpc.add_OperationServiceServicer_to_server(fake_admin.OperationAdmin(self), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(fake_servicers.Health(self), self._server)
        if self.service.name == "metrics":
            metrics_pb2_grpc.add_MetricsServiceServicer_to_server(fake_admin.Metrics(self), self._server)
        if self.service.name == "reports":
            reports_pb2_grpc.add_ReportsServiceServicer_to_server(fake_servicers.Reports(self), self._server)
        if self.service.name == "notify":
            notify_pb2_grpc.add_NotifyServiceServicer_to_server(fake_servicers.Notify(self), self._server)
        port = self._server.add_insecure_port(address)
        self.target = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def end_subscriptions(self) -> None:
        """End every Subscribe, as a gateway that drains does."""
        self.generation += 1
        async with self.service.changed:
            self.service.changed.notify_all()


class FakeGateways:
    """All of them, on a thread of their own; `with FakeGateways() as fakes`."""

    def __init__(self, *names: str) -> None:
        self.gateways = {name: FakeGateway(name) for name in names or TASKS}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-gateways", daemon=True)

    def __getitem__(self, name: str) -> FakeGateway:
        return self.gateways[name]

    @property
    def routes(self) -> dict[str, str]:
        return {name: gateway.target for name, gateway in self.gateways.items()}

    def __enter__(self) -> Self:
        self._thread.start()
        for gateway in self.gateways.values():
            self.run(gateway.start())
        return self

    def __exit__(self, *_: object) -> None:
        for gateway in self.gateways.values():
            self.run(gateway.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Any) -> Any:
        """Run a coroutine on the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def do(self, action: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call something of a service on the loop and wait for its result."""
        done: Future[Any] = Future()

        def act() -> None:
            try:
                done.set_result(action(*arguments, **named))
            except BaseException as error:  # noqa: BLE001 (it is raised where `do` was called)
                done.set_exception(error)

        self._loop.call_soon_threadsafe(act)
        return done.result(30)


class _Refusals(grpc.aio.ServerInterceptor):
    """Answers a call that raises Refused with its Status and details."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _streaming(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            _unary(handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )


def _unary(inner: Any) -> Any:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await inner(request, context)
        except Refused as refused:
            await _abort(context, refused.status)

    return call


def _streaming(inner: Any) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for answer in inner(request, context):
                yield answer
        except Refused as refused:
            await _abort(context, refused.status)

    return call


async def _abort(context: Any, status: status_pb2.Status) -> None:
    await context.abort(status_code(status), status.message, ((STATUS_DETAILS_KEY, status.SerializeToString()),))
