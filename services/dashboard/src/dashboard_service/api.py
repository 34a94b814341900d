"""Work over HTTP: the JSON form of any work-accepting request, and the operation that it became.

- `POST /api/v1/{service}/{method}` with the request in protobuf JSON; the method as in the contract or in kebab case.
  `Idempotency-Key` stands for `request_id` where the body has none; `traceparent` is passed on.
- `GET /api/v1/operations/{service}/{id}`
- `GET /api/v1/operations` and `GET /api/v1/operations/{service}` with `filter`, `page_size`, `page_token`
- `GET /api/v1/` lists the methods; `GET /api/v1/openapi.json` describes all of this.

Errors are `application/problem+json` with every violation.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from chassis import paging, telemetry
from chassis.errors import FieldViolation, InvalidArgument
from chassis.telemetry import SpanContext
from flask import Blueprint, Response, jsonify, request, url_for
from google.longrunning import operations_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from dashboard_service import contracts, history, json_input, openapi
from dashboard_service.auditing import audited
from dashboard_service.clients import CALL_TIMEOUT
from dashboard_service.context import current
from dashboard_service.operation_rows import instant, metadata_of, split_name

IDEMPOTENCY_KEY = "Idempotency-Key"
TRACE_KEY = "traceparent"
MAX_PAGE_SIZE = 1_000

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


@blueprint.get("/")
def index() -> Response:
    """The methods of every service, each with the path that it is called by, and where all of it is described."""
    methods = {
        service: {
            name: url_for(".submit", service=service, method=contracts.kebab(name))
            for name in sorted(contracts.work_methods(service))
        }
        for service in current().clients.gateways
    }
    answer = jsonify({**methods, "openapi": url_for(".describe")})
    answer.headers["Link"] = f'<{url_for(".describe")}>; rel="service-desc"; type="application/json"'
    return answer


@blueprint.get("/openapi.json")
def describe() -> Response:
    """This API as an OpenAPI 3.1 document."""
    answer: Response = jsonify(openapi.document(tuple(current().clients.gateways), request.host_url.rstrip("/")))
    return answer


@blueprint.post("/<service>/<method>")
def submit(service: str, method: str) -> Response:
    """Hand the request to the service's gateway; 202 with the operation, 200 with the items of a batch."""
    gateway = current().clients.of(service)
    descriptor = contracts.resolve(service, method)
    message = message_factory.GetMessageClass(descriptor.input_type)()
    _identify(json_input.parse(request.get_data(), message))
    with _callers_span(), audited("operations.submit", service, descriptor.name) as record:
        answer = gateway.call(descriptor, message)
        record.message = answer.name if isinstance(answer, operations_pb2.Operation) else ""
    if not isinstance(answer, operations_pb2.Operation):
        return _json(answer, 200)
    accepted = _json(answer, 202)
    owner, operation_id = split_name(answer.name)
    accepted.headers["Location"] = url_for(".get_operation", service=owner, operation_id=operation_id)
    return accepted


@blueprint.get("/operations")
def list_all() -> Response:
    """Operations of all services as one list, newest first; where one does not answer, there is no list."""
    size = paging.size(_page_size())
    clients = current().clients
    places = history.places(request.args.get("page_token", ""), tuple(clients.gateways))
    calls = clients.ask(
        lambda each: each.operations.ListOperations.future(
            _list_request(each.service, size, places[each.service].token), timeout=CALL_TIMEOUT.total_seconds()
        ),
        places or ("",),
    ).calls
    answers = {service: call.result() for service, call in calls.items()}
    pages = {
        service: history.Page(places[service], [Listed(each) for each in answer.operations], answer.next_page_token)
        for service, answer in answers.items()
    }
    merged = history.merge(pages, size)
    listed = operations_pb2.ListOperationsResponse(
        operations=[each.operation for each in merged.rows], next_page_token=merged.next_token
    )
    return _json(listed, 200)


@blueprint.get("/operations/<service>")
def list_operations(service: str) -> Response:
    """Those of one service, as google.longrunning.Operations/ListOperations gives them."""
    operations = current().clients.of(service).operations
    wanted = _list_request(service, _page_size(), request.args.get("page_token", ""))
    return _json(operations.ListOperations(wanted, timeout=CALL_TIMEOUT.total_seconds()), 200)


@blueprint.get("/operations/<service>/<operation_id>")
def get_operation(service: str, operation_id: str) -> Response:
    """The operation as google.longrunning.Operations/GetOperation gives it."""
    wanted = operations_pb2.GetOperationRequest(name=f"operations/{service}/{operation_id}")
    operations = current().clients.of(service).operations
    return _json(operations.GetOperation(wanted, timeout=CALL_TIMEOUT.total_seconds()), 200)


@dataclass(frozen=True, slots=True)
class Listed:
    """An operation, and when it was accepted."""

    operation: operations_pb2.Operation

    @property
    def created(self) -> datetime | None:
        return instant(metadata_of(self.operation).create_time)


def _list_request(service: str, size: int, token: str) -> operations_pb2.ListOperationsRequest:
    return operations_pb2.ListOperationsRequest(
        name=f"operations/{service}", filter=request.args.get("filter", ""), page_size=size, page_token=token
    )


def _page_size() -> int:
    """0 where none is given; raises InvalidArgument for what is no number."""
    text = request.args.get("page_size", "0")
    if text.isascii() and text.isdigit():
        return min(int(text), MAX_PAGE_SIZE)
    reason = f"expected a whole number from 1 to {MAX_PAGE_SIZE}; more counts as that"
    raise InvalidArgument([FieldViolation("page_size", reason)], domain="dashboard")


def _identify(message: Message) -> None:
    """Take the header for the request_id; raises InvalidArgument where it contradicts or has no place."""
    key = request.headers.get(IDEMPOTENCY_KEY, "")
    if not key:
        return
    if "request_id" not in message.DESCRIPTOR.fields_by_name:
        reason = f"{message.DESCRIPTOR.name} has no request_id of its own; set one in each of its requests"
    elif getattr(message, "request_id") not in {"", key}:  # noqa: B009 (the type of the message is known at run time)
        reason = "differs from the body's request_id; send one of them"
    else:
        setattr(message, "request_id", key)  # noqa: B010
        return
    raise InvalidArgument([FieldViolation(IDEMPOTENCY_KEY, reason)], domain="dashboard")


def _callers_span() -> AbstractContextManager[None]:
    """The caller's span as the parent of the call, where it sent one."""
    parent = SpanContext.parse(request.headers.get(TRACE_KEY, ""))
    return telemetry.use_span(parent) if parent else nullcontext()


def _json(message: Message, status: int) -> Response:
    contracts.load()
    body = json_format.MessageToJson(message, ensure_ascii=False, indent=None)
    return Response(body, status=status, mimetype="application/json")
