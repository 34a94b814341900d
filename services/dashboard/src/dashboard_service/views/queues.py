"""Queues: how deep, how old, how fast; pause, resume, purge."""

from flask import Blueprint, render_template, url_for
from flask.typing import ResponseReturnValue
from waybill.admin.v1 import admin_pb2

from dashboard_service.clients import CALL_TIMEOUT
from dashboard_service.context import current
from dashboard_service.presentation import done

blueprint = Blueprint("queues", __name__)


@blueprint.get("/queues")
def page() -> str:
    """Queues of all services."""
    return render_template("queues.html", sample=current().hub.latest())


def panel() -> str:
    """The part of the page that moves with every sample."""
    return render_template("queues_panel.html", sample=current().hub.latest())


@blueprint.post("/queues/<service>/<queue>/pause")
def pause(service: str, queue: str) -> ResponseReturnValue:
    """Let workers take nothing from it."""
    wanted = admin_pb2.PauseQueueRequest(service=service, queue=queue)
    current().clients.of(service).queues.PauseQueue(wanted, timeout=CALL_TIMEOUT.total_seconds())
    return done("paused", url_for(".page"))


@blueprint.post("/queues/<service>/<queue>/resume")
def resume(service: str, queue: str) -> ResponseReturnValue:
    """Open it again."""
    wanted = admin_pb2.ResumeQueueRequest(service=service, queue=queue)
    current().clients.of(service).queues.ResumeQueue(wanted, timeout=CALL_TIMEOUT.total_seconds())
    return done("resumed", url_for(".page"))


@blueprint.post("/queues/<service>/<queue>/purge")
def purge(service: str, queue: str) -> ResponseReturnValue:
    """Cancel what waits in it."""
    wanted = admin_pb2.PurgeQueueRequest(service=service, queue=queue)
    current().clients.of(service).queues.PurgeQueue(wanted, timeout=CALL_TIMEOUT.total_seconds())
    return done("purged", url_for(".page"))
