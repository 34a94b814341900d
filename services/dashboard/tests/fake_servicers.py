"""Servicers over `FakeService`: what the contracts say of the RPCs that the dashboard calls."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import descriptor_pool, empty_pb2, message_factory
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc
from waybill.events.v1 import events_pb2, events_pb2_grpc
from waybill.notify.v1 import notify_pb2, notify_pb2_grpc
from waybill.operations.v1 import operations_pb2 as ops
from waybill.reports.v1 import reports_pb2_grpc

from services.dashboard.tests import fake_filters
from services.dashboard.tests.fake_service import Kept, Refused, Servicer, a_status


class Operations(Servicer, operations_pb2_grpc.OperationsServicer):
    async def GetOperation(self, request: Any, context: Any) -> Any:
        return self.find(request.name).answer(self.service.name)

    async def ListOperations(self, request: Any, context: Any) -> Any:
        wanted = fake_filters.parse(request.filter)
        found = [each for each in self.service.newest_first() if wanted(each)]
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
            answers = []
            for event in self.service.log[position:]:
                position += 1
                answers.append(events_pb2.SubscribeResponse(event=event, cursor=f"{position}-0"))
            if answers and request.HasField("min_interval"):
                yield events_pb2.SubscribeResponse(batch=answers, cursor=answers[-1].cursor)
            else:
                for answer in answers:
                    yield answer
            async with self.service.changed:
                await self.service.changed.wait_for(partial(self.gateway.has_news, position, generation))
            if self.gateway.generation != generation:
                raise Refused(a_status(code_pb2.UNAVAILABLE, "the gateway is draining", "DRAINING"))


class Queues(Servicer, admin_pb2_grpc.QueueServiceServicer):
    async def ListQueues(self, request: Any, context: Any) -> Any:
        self.gateway.queues_listed += 1
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
        queue.parked_operations, queue.parked_messages = self.service.parked.get(name, (0, 0))
        if due:
            oldest = min(each.metadata.create_time.ToNanoseconds() for each in due)
            queue.oldest_age.FromNanoseconds(max(0, int(self.service.clock().timestamp() * 1e9) - oldest))
        return queue


class Workers(Servicer, admin_pb2_grpc.WorkerServiceServicer):
    async def ListWorkers(self, request: Any, context: Any) -> Any:
        self.gateway.workers_listed += 1
        return admin_pb2.ListWorkersResponse(workers=self.service.workers.values())

    async def SetConcurrency(self, request: Any, context: Any) -> Any:
        worker = self.worker(request.worker)
        worker.concurrency = request.concurrency
        return worker

    async def DrainWorker(self, request: Any, context: Any) -> Any:
        worker = self.worker(request.worker)
        worker.draining = True
        return worker

    def worker(self, name: str) -> admin_pb2.Worker:
        if name not in self.service.workers:
            raise Refused(a_status(code_pb2.NOT_FOUND, f"{name} does not run", "WORKER_NOT_FOUND"))
        return self.service.workers[name]


class DeadLetters(Servicer, admin_pb2_grpc.DeadLetterServiceServicer):
    async def ListDeadLetters(self, request: Any, context: Any) -> Any:
        self.gateway.letters_listed += 1
        letters = [self.letter(each) for each in self.matching(request.filter)]
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
        self.gateway.received.append(request)
        fresh = [each for each in self.oldest_first(request) if not each.metadata.replayed_by][: request.limit or 1000]
        replays = [self.replay(each, self.patched(each, request)) for each in fresh]
        return admin_pb2.ReplayDeadLettersResponse(operations=[each.answer(self.service.name) for each in replays])

    async def DiscardDeadLetters(self, request: Any, context: Any) -> Any:
        chosen = self.oldest_first(request)[: request.limit or 1000]
        self.service.discarded.update(each.id for each in chosen)
        return admin_pb2.DiscardDeadLettersResponse(discarded=len(chosen))

    async def DiscardDeadLetter(self, request: Any, context: Any) -> Any:
        self.service.discarded.add(self.find(request.operation).id)
        return admin_pb2.DiscardDeadLetterResponse()

    def matching(self, expression: str) -> list[Kept]:
        wanted = fake_filters.parse(expression)
        return [each for each in self.service.dead_letters() if wanted(each)]

    def oldest_first(self, request: Any) -> list[Kept]:
        found = reversed(self.matching(request.filter))
        return [each for each in found if request.group in {"", self.letter(each).group}]

    def patched(self, kept: Kept, request: Any) -> admin_pb2.ReplayDeadLetterRequest:
        replay = admin_pb2.ReplayDeadLetterRequest()
        if not request.HasField("payload_patch"):
            return replay
        name = request.payload_patch.type_url.rpartition("/")[2]
        kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
        payload, patch = kind(), kind()
        if not kept.metadata.request.Unpack(payload):
            status = a_status(
                code_pb2.INVALID_ARGUMENT, "other type", "INVALID_REQUEST", payload_patch="has another type"
            )
            raise Refused(status)
        request.payload_patch.Unpack(patch)
        for field, value in patch.ListFields():
            payload.ClearField(field.name)
            getattr(payload, field.name).MergeFrom(value) if field.is_repeated or field.message_type else setattr(
                payload, field.name, value
            )
        replay.edited_request.Pack(payload)
        return replay

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


def _in(kept: Kept, queue: str) -> bool:
    return kept.metadata.queue == queue


def _reason(packed: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    return info.reason if packed is not None and packed.Unpack(info) else "UNKNOWN"
