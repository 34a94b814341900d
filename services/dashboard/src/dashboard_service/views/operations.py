"""The table of operations, and one operation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import grpc
from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from google.longrunning import operations_pb2

from dashboard_service import cursors, history, steering, timeline
from dashboard_service.auditing import audited
from dashboard_service.clients import PAGE_TIMEOUT
from dashboard_service.context import current
from dashboard_service.filters import FIELD, OperationFilter, complaint
from dashboard_service.operation_rows import BLANK, STATES, OperationRow, metadata_of, of_operation, split_name
from dashboard_service.presentation import done
from dashboard_service.problems import Problem, of_status

PAGE_SIZE = 100
MAX_CHILDREN = 50
CURSOR_KEY = "waybill-cursor"

blueprint = Blueprint("operations", __name__)


@dataclass(frozen=True, slots=True)
class Found:
    """One page of operations, where events continue it, and who did not answer."""

    rows: Sequence[OperationRow]
    next_token: str
    cursors: Mapping[str, str]
    problems: Mapping[str, Problem]
    # What services say is wrong with the filter; each thing once.
    complaints: Sequence[str] = ()


@blueprint.get("/operations")
def page() -> str:
    """Operations of all services, newest first; the first page moves."""
    found, wanted = _found()
    live = "page_token" not in request.args
    return render_template(
        "operations.html", found=found, blank=BLANK, wanted=wanted, live=live, cursor=cursors.encode(found.cursors)
    )


def table_panel() -> str:
    """The table of a page with a filter, which the services alone can apply."""
    found, _ = _found()
    return render_template("operations_table.html", found=found, blank=BLANK)


def _found() -> tuple[Found, OperationFilter]:
    wanted = _filter()
    services = (wanted.service,) if wanted.service else tuple(current().clients.gateways)
    places = history.places(request.args.get("page_token", ""), services)
    return _list(places, wanted, PAGE_SIZE), wanted


@blueprint.get("/operations/<service>/<operation_id>")
def detail(service: str, operation_id: str) -> str:
    """One operation, live until it ends."""
    values = _values(service, operation_id)
    return render_template("operation.html", service=service, operation_id=operation_id, **values)


@blueprint.post("/operations/<service>/<operation_id>/cancel")
def cancel(service: str, operation_id: str) -> ResponseReturnValue:
    """Ask for its cancellation."""
    gateway, name = current().clients.of(service), f"operations/{service}/{operation_id}"
    with audited("operations.cancel", service, name):
        steering.cancel(gateway, name)
    return done("cancelled", url_for(".detail", service=service, operation_id=operation_id))


def panel() -> str:
    """The part of an operation's page that moves; the operation is named by the query."""
    service, operation_id = split_name(request.args.get("operation", ""))
    return render_template("operation_panel.html", **_values(service, operation_id))


def first_page(services: Collection[str], wanted: OperationFilter, size: int) -> Found:
    """The newest operations of the services named, or of all."""
    names = services or tuple(current().clients.gateways)
    return _list({service: history.Place() for service in names}, wanted, size)


def _filter() -> OperationFilter:
    state = request.args.get("state", "").upper()
    service = request.args.get("service", "")
    return OperationFilter(
        service=service if service in current().clients.gateways else "",
        state=state if state in STATES else "",
        text=request.args.get("text", ""),
        expression=request.args.get(FIELD, "").strip(),
    )


def _list(places: Mapping[str, history.Place], wanted: OperationFilter, size: int) -> Found:
    pending = current().clients.ask(
        lambda each: each.operations.ListOperations.future(
            _list_request(each.service, wanted.asked, size, places[each.service].token),
            timeout=PAGE_TIMEOUT.total_seconds(),
        ),
        places or ("",),
    )
    answers = pending.answers()
    pages = {
        service: history.Page(
            places[service], [of_operation(each) for each in answer.operations], answer.next_page_token
        )
        for service, answer in answers.by_service.items()
    }
    merged = history.merge(pages, size)
    found = {service: _cursor(pending.calls[service]) for service in answers.by_service}
    known = {service: cursor for service, cursor in found.items() if cursor}
    complaints = {service: complaint(problem) for service, problem in answers.problems.items()}
    return Found(
        merged.rows,
        merged.next_token,
        known,
        {service: problem for service, problem in answers.problems.items() if not complaints[service]},
        tuple(dict.fromkeys(filter(None, complaints.values()))),
    )


def _list_request(service: str, expression: str, size: int, token: str) -> operations_pb2.ListOperationsRequest:
    return operations_pb2.ListOperationsRequest(
        name=f"operations/{service}", filter=expression, page_size=size, page_token=token
    )


def _cursor(call: Any) -> str:
    """The position in the service's events that this answer is a snapshot at; empty where it is not said."""
    trailing = cast("Sequence[tuple[str, str]]", call.trailing_metadata() or ())
    return next((value for key, value in trailing if key == CURSOR_KEY), "")


def _values(service: str, operation_id: str) -> dict[str, Any]:
    gateway = current().clients.of(service)
    wanted = operations_pb2.GetOperationRequest(name=f"operations/{service}/{operation_id}")
    operation = gateway.operations.GetOperation(wanted, timeout=PAGE_TIMEOUT.total_seconds())
    metadata = metadata_of(operation)
    return {
        "row": of_operation(operation),
        "operation": operation,
        "metadata": metadata,
        "timeline": timeline.build(metadata, datetime.now(UTC)),
        "problem": of_status(operation.error) if operation.WhichOneof("result") == "error" else None,
        "children": _children(operation.name) if metadata.children.total else (),
    }


def _children(name: str) -> Sequence[OperationRow]:
    """The newest of the operations that this one's fan-out accepted; none where the gateway cannot say."""
    service = split_name(name)[0]
    asked = _list_request(service, f'parent="{name}"', MAX_CHILDREN, "")
    operations = current().clients.of(service).operations
    try:
        answer = operations.ListOperations(asked, timeout=PAGE_TIMEOUT.total_seconds())
    except grpc.RpcError:
        return ()
    return [of_operation(each) for each in answer.operations]
