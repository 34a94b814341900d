"""Queues: how deep, how old, how fast; pause, resume, purge."""

from typing import Any

from flask import Blueprint, render_template, url_for
from flask.typing import ResponseReturnValue
from waybill.admin.v1 import admin_pb2

from dashboard_service.auditing import audited
from dashboard_service.clients import CALL_TIMEOUT
from dashboard_service.context import current
from dashboard_service.presentation import done

blueprint = Blueprint("queues", __name__)


@blueprint.get("/queues")
def page() -> str:
    """Queues of all services."""
    return render_template("queues.html", **_values())


def panel() -> str:
    """The part of the page that moves with every sample."""
    return render_template("queues_panel.html", **_values())


def _values() -> dict[str, Any]:
    hub = current().hub
    return {"sample": hub.latest(), "depths": hub.depths}


@blueprint.post("/queues/<service>/<queue>/pause")
def pause(service: str, queue: str) -> ResponseReturnValue:
    """Let workers take nothing from it."""
    wanted = admin_pb2.PauseQueueRequest(service=service, queue=queue)
    stub = current().clients.of(service).queues
    with audited("queues.pause", service, queue):
        stub.PauseQueue(wanted, timeout=CALL_TIMEOUT.total_seconds())
    return done("paused", url_for(".page"))


@blueprint.post("/queues/<service>/<queue>/resume")
def resume(service: str, queue: str) -> ResponseReturnValue:
    """Open it again."""
    wanted = admin_pb2.ResumeQueueRequest(service=service, queue=queue)
    stub = current().clients.of(service).queues
    with audited("queues.resume", service, queue):
        stub.ResumeQueue(wanted, timeout=CALL_TIMEOUT.total_seconds())
    return done("resumed", url_for(".page"))


@blueprint.post("/queues/<service>/<queue>/purge")
def purge(service: str, queue: str) -> ResponseReturnValue:
    """Cancel what waits in it."""
    wanted = admin_pb2.PurgeQueueRequest(service=service, queue=queue)
    stub = current().clients.of(service).queues
    with audited("queues.purge", service, queue) as record:
        record.count = stub.PurgeQueue(wanted, timeout=CALL_TIMEOUT.total_seconds()).cancelled
    return done("purged", url_for(".page"))
