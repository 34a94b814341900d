"""Alerts of the metrics service: what fires, what is about to, what is over."""

from typing import Any, Final

import grpc
from flask import Blueprint, render_template, request
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from dashboard_service.clients import PAGE_TIMEOUT
from dashboard_service.context import current
from dashboard_service.problems import of_call

SERVICE = "metrics"
PAGE_SIZE = 50

blueprint = Blueprint("alerts", __name__)

STATES: Final = ("FIRING", "PENDING", "RESOLVED")
COMPARISONS: Final = {metrics_pb2.COMPARISON_ABOVE: ">", metrics_pb2.COMPARISON_BELOW: "<"}


@blueprint.get("/alerts")
def page() -> str:
    """Newest first, of a state or of all."""
    return render_template("alerts.html", **_values())


def panel() -> str:
    """The part of the page that moves with every sample."""
    return render_template("alerts_panel.html", **_values())


def _values() -> dict[str, Any]:
    state = request.args.get("state", "").upper()
    state = state if state in STATES else ""
    asked = metrics_pb2.ListAlertsRequest(
        state=metrics_pb2.AlertState.Value(f"ALERT_STATE_{state or 'UNSPECIFIED'}"),
        page_size=PAGE_SIZE,
        page_token=request.args.get("page_token", ""),
    )
    values: dict[str, Any] = {
        "state": state,
        "states": STATES,
        "signs": COMPARISONS,
        "alerts": (),
        "next_token": "",
        "problems": {},
    }
    gateway = current().clients.gateways.get(SERVICE)
    if gateway is None:
        return values
    try:
        stub = metrics_pb2_grpc.MetricsServiceStub(gateway.channel)
        answer = stub.ListAlerts(asked, timeout=PAGE_TIMEOUT.total_seconds())
    except grpc.RpcError as error:
        return {**values, "problems": {SERVICE: of_call(error)}}
    return {**values, "alerts": answer.alerts, "next_token": answer.next_page_token}
