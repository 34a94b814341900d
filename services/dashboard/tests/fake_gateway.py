"""Gateways in memory: real gRPC servers over `FakeService`, one port a service, all on one thread's event loop.

They hold to what the contracts say of the RPCs that the dashboard calls. Run as a program they simulate work:
`python -m services.dashboard.tests.fake_gateway` prints the WAYBILL_ROUTES to start a dashboard with.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Self

import grpc
from chassis.statuses import STATUS_DETAILS_KEY, status_code
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.notify.v1 import notify_pb2, notify_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2_grpc

from services.dashboard.tests.fake_service import FakeService, Kept, a_status

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


class Refused(Exception):
    """Carries the Status that a call is answered with."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


class Servicer:
    """What all servicers share: the service, and errors as Status."""

    def __init__(self, gateway: "FakeGateway") -> None:
        self.gateway = gateway
        self.service = gateway.service

    def find(self, name: str) -> Kept:
        kept = self.service.kept.get(name.rpartition("/")[2])
        if kept is None or name != f"operations/{self.service.name}/{kept.id}":
            raise Refused(a_status(code_pb2.NOT_FOUND, f"{name} does not exist", "OPERATION_NOT_FOUND"))
        return kept


class Operations(Servicer, operations_pb2_grpc.OperationsServicer):
    async def GetOperation(self, request: Any, context: Any) -> Any:
        return self.find(request.name).answer(self.service.name)

    async def ListOperations(self, request: Any, context: Any) -> Any:
        wanted = dict(term.split("=", 1) for term in request.filter.split(" AND ") if term)
        found = [each for each in self.service.newest_first() if _matches(each, wanted)]
        start, size = int(request.page_token or 0), request.page_size or 50
        context.set_trailing_metadata((("waybill-cursor", self.gateway.cursor),))
        answer = operations_pb2.ListOperationsResponse()
        for each in found[start : start + size]:
            answer.operations.append(each.answer(self.service.name))
        answer.next_page_token = str(start + size) if start + size < len(found) else ""
        return answer

    async def CancelOperation(self, request: Any, context: Any) -> Any:
        self.service.cancel(self.find(request.name))
        return empty_pb2.Empty()


class Events(Servicer, events_pb2_grpc.EventServiceServicer):
    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[events_pb2.SubscribeResponse]:
        self.gateway.subscriptions += 1
        position = int(request.cursor.partition("-")[0]) if request.cursor else len(self.service.log)
        if not self.service.first_kept <= position <= len(self.service.log):
            raise Refused(a_status(code_pb2.OUT_OF_RANGE, "that is kept no longer", "CURSOR_EXPIRED"))
        yield events_pb2.SubscribeResponse(cursor=f"{position}-0")
        generation = self.gateway.generation
        while True:
            for event in self.service.log[position:]:
                position += 1
                yield events_pb2.SubscribeResponse(event=event, cursor=f"{position}-0")
            async with self.service.changed:
                await self.service.changed.wait_for(partial(self.gateway.has_news, position, generation))
            if self.gateway.generation != generation:
                raise Refused(a_status(code_pb2.UNAVAILABLE, "the gateway is draining", "DRAINING"))


class Queues(Servicer, admin_pb2_grpc.QueueServiceServicer):
    async def ListQueues(self, request: Any, context: Any) -> Any:
        return admin_pb2.ListQueuesResponse(queues=[self.queue(name) for name in self.service.queues])

    async def PauseQueue(self, request: Any, context: Any) -> Any:
        self.service.paused.add(request.queue)
        return self.queue(request.queue)

    async def ResumeQueue(self, request: Any, context: Any) -> Any:
        self.service.paused.discard(request.queue)
        return self.queue(request.queue)

    async def PurgeQueue(self, request: Any, context: Any) -> Any:
        waiting = [each for each in self.service.in_state(ops.OPERATION_STATE_QUEUED) if _in(each, request.queue)]
        for each in waiting:
            self.service.cancel(each)
        return admin_pb2.PurgeQueueResponse(cancelled=len(waiting))

    def queue(self, name: str) -> admin_pb2.Queue:
        due = [each for each in self.service.in_state(ops.OPERATION_STATE_QUEUED) if _in(each, name)]
        later = self.service.in_state(ops.OPERATION_STATE_SCHEDULED, ops.OPERATION_STATE_RETRYING)
        running = self.service.in_state(ops.OPERATION_STATE_RUNNING)
        by_priority = {level: sum(each.metadata.priority == level for each in due) for level in (1, 2, 3)}
        queue = admin_pb2.Queue(
            name=name,
            depth=len(due),
            depth_low=by_priority[1],
            depth_normal=by_priority[2],
            depth_high=by_priority[3],
            waiting=sum(_in(each, name) for each in later),
            in_flight=sum(_in(each, name) for each in running),
            paused=name in self.service.paused,
            accept_rate=self.gateway.rate(name, "accepted"),
            settle_rate=self.gateway.rate(name, "succeeded"),
        )
        if due:
            oldest = min(each.metadata.create_time.ToNanoseconds() for each in due)
            queue.oldest_age.FromNanoseconds(max(0, int(self.service.clock().timestamp() * 1e9) - oldest))
        return queue


class Workers(Servicer, admin_pb2_grpc.WorkerServiceServicer):
    async def ListWorkers(self, request: Any, context: Any) -> Any:
        return admin_pb2.ListWorkersResponse(workers=self.service.workers.values())

    async def SetConcurrency(self, request: Any, context: Any) -> Any:
        self.service.workers[request.worker].concurrency = request.concurrency
        return self.service.workers[request.worker]

    async def DrainWorker(self, request: Any, context: Any) -> Any:
        self.service.workers[request.worker].draining = True
        return self.service.workers[request.worker]


class DeadLetters(Servicer, admin_pb2_grpc.DeadLetterServiceServicer):
    async def ListDeadLetters(self, request: Any, context: Any) -> Any:
        letters = [self.letter(each) for each in self.service.dead_letters()]
        answer = admin_pb2.ListDeadLettersResponse(total=len(letters))
        for name in sorted({each.group for each in letters}):
            members = [each for each in letters if each.group == name]
            task, _, reason = name.partition(" ")
            group = answer.groups.add(group=name, task=task, reason=reason, count=len(members))
            group.newest_time.CopyFrom(members[0].end_time)
        start, size = int(request.page_token or 0), request.page_size or 50
        shown = [each for each in letters if request.group in {"", each.group}]
        answer.dead_letters.extend(shown[start : start + size])
        answer.next_page_token = str(start + size) if start + size < len(shown) else ""
        return answer

    async def GetDeadLetter(self, request: Any, context: Any) -> Any:
        kept = self.find(request.operation)
        letter = self.letter(kept)
        letter.request.CopyFrom(kept.metadata.request)
        letter.attempt_log.extend(kept.metadata.attempts)
        return letter

    async def ReplayDeadLetter(self, request: Any, context: Any) -> Any:
        known = self.service.by_request_id.get(request.request_id)
        if request.request_id and known:
            return self.service.kept[known].answer(self.service.name)
        kept = self.replay(self.find(request.operation), request)
        self.service.by_request_id[request.request_id] = kept.id
        return kept.answer(self.service.name)

    async def ReplayDeadLetters(self, request: Any, context: Any) -> Any:
        letters = [each for each in self.service.dead_letters() if self.letter(each).group == request.group]
        fresh = [each for each in reversed(letters) if not each.metadata.replayed_by][: request.limit or 1000]
        replays = [self.replay(each, admin_pb2.ReplayDeadLetterRequest()) for each in fresh]
        return admin_pb2.ReplayDeadLettersResponse(operations=[each.answer(self.service.name) for each in replays])

    async def DiscardDeadLetter(self, request: Any, context: Any) -> Any:
        self.service.discarded.add(self.find(request.operation).id)
        return admin_pb2.DiscardDeadLetterResponse()

    def replay(self, original: Kept, request: Any) -> Kept:
        payload = request.edited_request if request.HasField("edited_request") else original.metadata.request
        kept = self.service.accept(
            original.metadata.task, replayed_from=f"operations/{self.service.name}/{original.id}", request=payload
        )
        original.metadata.replayed_by = f"operations/{self.service.name}/{kept.id}"
        return kept

    def letter(self, kept: Kept) -> admin_pb2.DeadLetter:
        metadata = kept.metadata
        reason = kept.error.details[0] if kept.error and kept.error.details else None
        letter = admin_pb2.DeadLetter(
            operation=f"operations/{self.service.name}/{kept.id}",
            task=metadata.task,
            queue=metadata.queue,
            attempts=metadata.attempt,
            error=kept.error,
            create_time=metadata.create_time,
            end_time=metadata.end_time,
            trace_id=metadata.trace_id,
            replayed_by=metadata.replayed_by,
        )
        letter.group = f"{metadata.task} {_reason(reason)}"
        return letter


class Reports(Servicer, reports_pb2_grpc.ReportsServiceServicer):
    async def RenderReport(self, request: Any, context: Any) -> Any:
        """A title `fail CODE` is refused with that code and two violations."""
        self.gateway.received.append(request)
        self.gateway.metadata = dict(context.invocation_metadata())
        known = self.service.by_request_id.get(request.request_id)
        if request.request_id and known:
            return self.service.kept[known].answer(self.service.name)
        if request.title.startswith("fail "):
            code = code_pb2.Code.Value(request.title.removeprefix("fail "))
            raise Refused(a_status(code, "no", "REFUSED", title="is wrong", sections="are missing"))
        kept = self.service.accept("reports.render_report", request, request_id=request.request_id)
        self.service.by_request_id[request.request_id] = kept.id
        return kept.answer(self.service.name)


class Notify(Servicer, notify_pb2_grpc.NotifyServiceServicer):
    async def BatchSendNotifications(self, request: Any, context: Any) -> Any:
        """An item without a template is refused, the others are accepted."""
        answer = notify_pb2.BatchSendNotificationsResponse()
        for each in request.requests:
            if each.template_id:
                kept = self.service.accept("notify.send_notification", each)
                answer.items.add().operation.CopyFrom(kept.answer(self.service.name))
            else:
                answer.items.add().error.CopyFrom(a_status(code_pb2.INVALID_ARGUMENT, "no template", "INVALID_REQUEST"))
        return answer


class Health(Servicer, health_pb2_grpc.HealthServicer):
    async def Check(self, request: Any, context: Any) -> Any:
        return health_pb2.HealthCheckResponse(status=self.gateway.health)


class FakeGateway:
    """One service's server."""

    def __init__(self, name: str) -> None:
        self.service = FakeService(name, TASKS[name])
        self.health = health_pb2.HealthCheckResponse.SERVING
        self.received: list[Any] = []
        self.metadata: dict[str, Any] = {}
        self.subscriptions = 0
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

    async def start(self, address: str = "127.0.0.1:0") -> None:
        self._server = grpc.aio.server(interceptors=[_Refusals()], options=(("grpc.so_reuseport", 0),))
        operations_pb2_grpc.add_OperationsServicer_to_server(Operations(self), self._server)
        events_pb2_grpc.add_EventServiceServicer_to_server(Events(self), self._server)
        admin_pb2_grpc.add_QueueServiceServicer_to_server(Queues(self), self._server)
        admin_pb2_grpc.add_WorkerServiceServicer_to_server(Workers(self), self._server)
        admin_pb2_grpc.add_DeadLetterServiceServicer_to_server(DeadLetters(self), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(Health(self), self._server)
        if self.service.name == "reports":
            reports_pb2_grpc.add_ReportsServiceServicer_to_server(Reports(self), self._server)
        if self.service.name == "notify":
            notify_pb2_grpc.add_NotifyServiceServicer_to_server(Notify(self), self._server)
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


def _in(kept: Kept, queue: str) -> bool:
    return kept.metadata.queue == queue


def _matches(kept: Kept, wanted: dict[str, str]) -> bool:
    state = ops.OperationState.Name(kept.metadata.state).removeprefix("OPERATION_STATE_")
    facts = {"state": state, "parent": kept.metadata.parent, "task": kept.metadata.task}
    return all(facts[name.strip()] == value.strip().strip('"') for name, value in wanted.items())


def _reason(packed: Any) -> str:
    from google.rpc import error_details_pb2  # noqa: PLC0415

    info = error_details_pb2.ErrorInfo()
    return info.reason if packed is not None and packed.Unpack(info) else "UNKNOWN"
