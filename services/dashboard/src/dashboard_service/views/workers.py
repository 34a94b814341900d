"""Workers: what each runs, how it is; drain it."""

from flask import Blueprint, render_template, url_for
from flask.typing import ResponseReturnValue
from waybill.admin.v1 import admin_pb2

from dashboard_service.clients import CALL_TIMEOUT
from dashboard_service.context import current
from dashboard_service.presentation import done

blueprint = Blueprint("workers", __name__)


@blueprint.get("/workers")
def page() -> str:
    """Workers of all services."""
    return render_template("workers.html", sample=current().hub.latest())


def panel() -> str:
    """The part of the page that moves with every sample."""
    return render_template("workers_panel.html", sample=current().hub.latest())


@blueprint.post("/workers/<service>/<worker>/drain")
def drain(service: str, worker: str) -> ResponseReturnValue:
    """Let it take nothing more and end."""
    wanted = admin_pb2.DrainWorkerRequest(service=service, worker=worker)
    current().clients.of(service).workers.DrainWorker(wanted, timeout=CALL_TIMEOUT.total_seconds())
    return done("draining", url_for(".page"))
