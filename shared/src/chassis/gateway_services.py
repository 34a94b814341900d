"""What every gateway serves and does beside its own service's methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from externalscaler import externalscaler_pb2_grpc
from google.longrunning import operations_pb2_grpc
from waybill.admin.v1 import admin_pb2_grpc
from waybill.events.v1 import events_pb2_grpc

from chassis import store_calls
from chassis.admin_rpc import QueueServicer, WorkerServicer
from chassis.archivist import Archivist
from chassis.dead_letters import DeadLetterServicer
from chassis.event_log import EventLog
from chassis.events import EventServicer
from chassis.exposed_facts import store_source
from chassis.exposition import exposition
from chassis.logging import get_logger
from chassis.operations_rpc import OperationsServicer
from chassis.scaling import ScalerServicer
from chassis.span_exporter import SpanExporter
from chassis.span_sink import sink

if TYPE_CHECKING:
    from chassis.rpc import Gateway

log = get_logger(__name__)

Registration = tuple[Callable[[Any, Any], None], Any]


def standard_servicers(gateway: Gateway) -> list[Registration]:
    """The servicers of every gateway; what they need done in the background is added to the gateway."""
    app, store = gateway.app, gateway.store
    events = EventLog(store)
    exporter = SpanExporter(app.service, store, events, sink())
    archivist = Archivist(store, gateway.operations.archive, tail=gateway.settings.waybill.tail)
    exposition().add(store_source(app, gateway.settings.waybill))
    gateway.background += [
        events.run,
        exporter.run,
        archivist.run,
        gateway.admission.watch,
        lambda: keep_house(gateway),
    ]
    return [
        (operations_pb2_grpc.add_OperationsServicer_to_server, OperationsServicer(gateway.operations, events)),
        (events_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(app.service, events)),
        (admin_pb2_grpc.add_QueueServiceServicer_to_server, QueueServicer(app, store)),
        (admin_pb2_grpc.add_WorkerServiceServicer_to_server, WorkerServicer(app, store)),
        (admin_pb2_grpc.add_DeadLetterServiceServicer_to_server, DeadLetterServicer(app, gateway.operations)),
        (externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server, ScalerServicer(app, store)),
    ]


async def keep_house(gateway: Gateway) -> None:
    """Promote, expire, rescue and trim, also while no worker runs. Raises RedisError in an outage."""
    pause = store_calls.housekeeping_interval(gateway.app.lease).total_seconds()
    while True:
        done = await gateway.store.run(store_calls.housekeeping(lease=gateway.app.lease))
        if done is not None and (done.rescued or done.reconciled or done.leases_granted):
            log.warning(
                "housekeeping.rescued",
                rescued=done.rescued,
                reconciled=done.reconciled,
                leases_granted=done.leases_granted,
            )
        await asyncio.sleep(pause)
