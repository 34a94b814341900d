"""What every gateway serves and does beside its own service's methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from externalscaler import externalscaler_pb2_grpc
from google.longrunning import operations_pb2_grpc
from waybill.admin.v1 import admin_pb2_grpc
from waybill.events.v1 import events_pb2_grpc

from chassis import housekeeping, store_calls
from chassis.admin_rpc import QueueServicer, WorkerServicer
from chassis.archivist import Archivist
from chassis.dead_letters import DeadLetterServicer
from chassis.event_log import EventLog
from chassis.events import EventServicer
from chassis.exposed_facts import store_source
from chassis.exposition import exposition
from chassis.operation_admin import OperationServicer
from chassis.operations_rpc import OperationsServicer
from chassis.scaling import ScalerServicer
from chassis.span_exporter import SpanExporter
from chassis.span_sink import sink

if TYPE_CHECKING:
    from chassis.rpc import Gateway
    from chassis.worker import ServiceApp

Registration = tuple[Callable[[Any, Any], None], Any]


def standard_servicers(gateway: Gateway) -> list[Registration]:
    """The servicers of every gateway; what they need done in the background is added to the gateway."""
    app, store = gateway.app, gateway.store
    events = EventLog(store)
    exporter = SpanExporter(app.service, store, events, sink())
    archivist = Archivist(store, gateway.operations.archive, tail=gateway.settings.waybill.tail)
    letters = DeadLetterServicer(app, gateway.operations)
    exposition().add(store_source(app, gateway.settings.waybill))
    gateway.background += [
        events.run,
        exporter.run,
        archivist.run,
        gateway.admission.watch,
        letters.replays.run,
        lambda: keep_house(gateway),
    ]
    return [
        (operations_pb2_grpc.add_OperationsServicer_to_server, OperationsServicer(gateway.operations, events)),
        (events_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(app.service, events)),
        (admin_pb2_grpc.add_QueueServiceServicer_to_server, QueueServicer(app, store)),
        (admin_pb2_grpc.add_WorkerServiceServicer_to_server, WorkerServicer(app, store)),
        (admin_pb2_grpc.add_DeadLetterServiceServicer_to_server, letters),
        (
            admin_pb2_grpc.add_OperationServiceServicer_to_server,
            OperationServicer(gateway.operations, archived_within=archived_within(app, gateway.settings.waybill.tail)),
        ),
        (externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server, ScalerServicer(app, store)),
    ]


def archived_within(app: ServiceApp, tail: timedelta) -> timedelta | None:
    """How far ahead in `finished` what is archived lies; None where a task's operations are kept too briefly for it."""
    brief = any(task.retention is not None and task.retention <= tail for task in app.operation_tasks.values())
    return None if brief else tail


async def keep_house(gateway: Gateway) -> None:
    """Promote, expire, rescue and trim, also while no worker runs. Raises RedisError in an outage."""
    pause = store_calls.housekeeping_interval(gateway.app.lease).total_seconds()
    while True:
        housekeeping.report(await gateway.store.run(store_calls.housekeeping(lease=gateway.app.lease)))
        await asyncio.sleep(pause)
