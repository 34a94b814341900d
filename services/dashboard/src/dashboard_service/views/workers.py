"""Workers: what each runs, how it is; drain it, change its concurrency."""

from chassis.errors import Violations
from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from waybill.admin.v1 import admin_pb2

from dashboard_service.clients import CALL_TIMEOUT
from dashboard_service.context import current
from dashboard_service.presentation import done

MAX_CONCURRENCY = 1_000

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


@blueprint.post("/workers/<service>/<worker>/concurrency")
def set_concurrency(service: str, worker: str) -> ResponseReturnValue:
    """Let it run another number of attempts at a time."""
    wanted = admin_pb2.SetConcurrencyRequest(service=service, worker=worker, concurrency=_concurrency())
    current().clients.of(service).workers.SetConcurrency(wanted, timeout=CALL_TIMEOUT.total_seconds())
    return done("resized", url_for(".page"))


def _concurrency() -> int:
    given = request.form.get("concurrency", type=int) or 0
    violations = Violations()
    violations.require(1 <= given <= MAX_CONCURRENCY, "concurrency", f"expected 1 to {MAX_CONCURRENCY}")
    violations.raise_if_any()
    return given
