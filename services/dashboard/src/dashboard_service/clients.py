"""Other services, as this one calls them: one channel to each gateway, and one to the trace receiver.

Channels are opened by the process that uses them, after gunicorn has forked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

import grpc
from chassis.channels import Channels
from chassis.errors import NotFound
from google.longrunning import operations_pb2_grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from waybill.admin.v1 import admin_pb2_grpc
from waybill.events.v1 import events_pb2_grpc
from waybill.traces.v1 import traces_pb2_grpc

from dashboard_service.problems import Problem, of_call
from dashboard_service.settings import DashboardSettings

# A page shows what it has after this long; a form or an API call waits longer.
PAGE_TIMEOUT = timedelta(seconds=3)
CALL_TIMEOUT = timedelta(seconds=10)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gateway:
    """The stubs of one service."""

    service: str
    channel: grpc.Channel
    operations: Any
    health: Any
    events: events_pb2_grpc.EventServiceStub
    queues: admin_pb2_grpc.QueueServiceStub
    workers: admin_pb2_grpc.WorkerServiceStub
    dead_letters: admin_pb2_grpc.DeadLetterServiceStub
    # Statistics of operations, and what concerns many of them at once.
    steering: admin_pb2_grpc.OperationServiceStub

    def call(self, method: MethodDescriptor, request: Message) -> Message:
        """Any unary method by its descriptor; raises grpc.RpcError."""
        invoke = self.channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        answer: Message = invoke(request, timeout=CALL_TIMEOUT.total_seconds())
        return answer


def gateway(service: str, channel: grpc.Channel) -> Gateway:
    """The stubs of a service over a channel to its gateway."""
    return Gateway(
        service=service,
        channel=channel,
        operations=operations_pb2_grpc.OperationsStub(channel),
        health=health_pb2_grpc.HealthStub(channel),
        events=events_pb2_grpc.EventServiceStub(channel),
        queues=admin_pb2_grpc.QueueServiceStub(channel),
        workers=admin_pb2_grpc.WorkerServiceStub(channel),
        dead_letters=admin_pb2_grpc.DeadLetterServiceStub(channel),
        steering=admin_pb2_grpc.OperationServiceStub(channel),
    )


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What each service answered to the same question, or why it did not."""

    by_service: Mapping[str, T]
    problems: Mapping[str, Problem]


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """A question that is under way to several services."""

    calls: Mapping[str, grpc.Future[T]]

    def answers(self) -> Answers[T]:
        """Wait for all of them, each within the timeout of its call."""
        answers: dict[str, T] = {}
        problems: dict[str, Problem] = {}
        for service, call in self.calls.items():
            try:
                answers[service] = call.result()
            except grpc.RpcError as error:
                problems[service] = of_call(error)
        return Answers(answers, problems)


@dataclass(slots=True)
class Clients:
    """Every gateway by its service, in the order of their names."""

    gateways: dict[str, Gateway]
    traces: traces_pb2_grpc.TraceServiceStub | None = None
    _channels: list[grpc.Channel] = field(default_factory=list)

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self.gateways.values())

    def of(self, service: str) -> Gateway:
        """The gateway of a service; raises NotFound for one without a route."""
        found = self.gateways.get(service)
        if found is None:
            known = ", ".join(self.gateways)
            raise NotFound(
                f"there is no service {service!r}; WAYBILL_ROUTES names {known}",
                reason="SERVICE_NOT_FOUND",
                metadata={"service": service},
                domain="dashboard",
            )
        return found

    def ask(self, question: Callable[[Gateway], grpc.Future[T]], services: Collection[str] = ()) -> Pending[T]:
        """Start one call to all services, or to those named; `question` returns the call's future."""
        return Pending({each.service: question(each) for each in self if not services or each.service in services})

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


def connect(settings: DashboardSettings) -> Clients:
    """Channels to every service of WAYBILL_ROUTES. Nothing is sent before the first call."""
    opened = Channels(settings.waybill)
    channels = {service: opened.blocking(service) for service in sorted(settings.waybill.targets)}
    traces = opened.blocking_to(settings.traces_target) if settings.traces_target else None
    return Clients(
        gateways={service: gateway(service, channel) for service, channel in channels.items()},
        traces=traces_pb2_grpc.TraceServiceStub(traces) if traces else None,
        _channels=[*channels.values(), *([traces] if traces else [])],
    )
