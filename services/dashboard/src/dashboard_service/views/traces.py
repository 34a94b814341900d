"""The waterfall of one trace: from Jaeger where one is set, else from the spans that the trace receiver keeps."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
from chassis.errors import FieldViolation, InvalidArgument, NotFound, Unavailable
from flask import Blueprint, render_template, request
from waybill.traces.v1 import traces_pb2, traces_pb2_grpc

from dashboard_service import waterfall
from dashboard_service.clients import PAGE_TIMEOUT
from dashboard_service.context import current
from dashboard_service.jaeger import Jaeger
from dashboard_service.problems import Problem, of_call, of_error

_TRACE_ID_DIGITS = 32

blueprint = Blueprint("traces", __name__)


@blueprint.get("/traces/<trace_id>")
def page(trace_id: str) -> str:
    """The trace as it is now; further spans appear as they arrive."""
    return render_template("trace.html", **_values(trace_id))


def panel() -> str:
    """The part of the page that moves; the trace is named by the query."""
    return render_template("trace_panel.html", **_values(request.args.get("trace", "")))


def watch(trace_id: str, arrived: Callable[[], object]) -> Callable[[], object]:
    """Call `arrived` for each span that comes, until the function returned here is called."""
    if _jaeger() is not None:
        return _nothing  # Jaeger tells nobody; the page asks with every sample
    call = _stub().WatchTrace(traces_pb2.WatchTraceRequest(trace_id=trace_id))

    def read() -> None:
        try:
            for _ in call:
                arrived()
        except grpc.RpcError:
            return

    threading.Thread(target=read, name=f"watch-{trace_id}", daemon=True).start()
    return call.cancel


def check(trace_id: str) -> None:
    """Raise what is wrong with the id, or that no traces are kept."""
    _checked(trace_id)
    if _jaeger() is None:
        _stub()


def _nothing() -> None:
    """There is no watch to end."""


def _values(trace_id: str) -> dict[str, Any]:
    spans, problem = _spans(_checked(trace_id))
    return {"trace_id": trace_id, "trace": waterfall.build(spans), "problem": problem}


def _spans(trace_id: str) -> tuple[list[traces_pb2.Span], Problem | None]:
    """The spans, or why there are none: a trace that is not here yet is no error of the page."""
    jaeger = _jaeger()
    asked = traces_pb2.GetTraceRequest(trace_id=trace_id)
    try:
        if jaeger is not None:
            return jaeger.spans(trace_id), None
        return list(_stub().GetTrace(asked, timeout=PAGE_TIMEOUT.total_seconds()).spans), None
    except grpc.RpcError as error:
        return [], of_call(error)
    except (NotFound, Unavailable) as error:
        if jaeger is None:
            raise
        return [], of_error(error)


def _jaeger() -> Jaeger | None:
    url = current().settings.jaeger_api
    return Jaeger(url, PAGE_TIMEOUT.total_seconds()) if url else None


def _stub() -> traces_pb2_grpc.TraceServiceStub:
    stub = current().clients.traces
    if stub is None:
        raise Unavailable("no trace receiver is set: DASHBOARD_TRACES_TARGET is empty", reason="TRACES_NOT_KEPT")
    return stub


def _checked(trace_id: str) -> str:
    if len(trace_id) != _TRACE_ID_DIGITS or not set(trace_id) <= set("0123456789abcdef"):
        raise InvalidArgument([FieldViolation("trace_id", "expected 32 lower-case hex digits")])
    return trace_id
