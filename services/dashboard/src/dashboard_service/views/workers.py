"""Workers: what each runs, how it is; how many slots it has; drain it."""

from chassis.errors import Violations
from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from waybill.admin.v1 import admin_pb2

from dashboard_service.auditing import audited
from dashboard_service.clients import CALL_TIMEOUT
from dashboard_service.context import current
from dashboard_service.presentation import done

# As the contract of SetConcurrency says.
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
    stub = current().clients.of(service).workers
    wanted = admin_pb2.DrainWorkerRequest(service=service, worker=worker)
    with audited("workers.drain", service, worker):
        stub.DrainWorker(wanted, timeout=CALL_TIMEOUT.total_seconds())
    current().hub.ask_anew()
    return done("draining", url_for(".page"))


@blueprint.post("/workers/<service>/<worker>/concurrency")
def set_concurrency(service: str, worker: str) -> ResponseReturnValue:
    """Let it have so many slots."""
    stub = current().clients.of(service).workers
    text = request.form.get("concurrency", "")
    violations = Violations()
    right = text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_CONCURRENCY
    violations.require(right, "concurrency", f"expected a whole number from 1 to {MAX_CONCURRENCY:,}")
    violations.raise_if_any()
    wanted = admin_pb2.SetConcurrencyRequest(service=service, worker=worker, concurrency=int(text))
    with audited("workers.set_concurrency", service, worker, concurrency=int(text)):
        stub.SetConcurrency(wanted, timeout=CALL_TIMEOUT.total_seconds())
    current().hub.ask_anew()
    return done("concurrency", url_for(".page"))
