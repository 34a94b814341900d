"""Work over HTTP: the JSON form of any work-accepting request, and the operation that it became.

- `POST /api/v1/{service}/{method}` with the request in protobuf JSON; the method as in the contract or in kebab case.
  `Idempotency-Key` stands for `request_id` where the body has none; `traceparent` is passed on.
- `GET /api/v1/operations/{service}/{id}`
- `GET /api/v1/` lists the methods.

Errors are `application/problem+json` with every violation.
"""

from contextlib import AbstractContextManager, nullcontext

from chassis import telemetry
from chassis.errors import FieldViolation, InvalidArgument
from chassis.telemetry import SpanContext
from flask import Blueprint, Response, jsonify, request, url_for
from google.longrunning import operations_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from dashboard_service import contracts, json_input
from dashboard_service.clients import CALL_TIMEOUT
from dashboard_service.context import current
from dashboard_service.operation_rows import split_name

IDEMPOTENCY_KEY = "Idempotency-Key"
TRACE_KEY = "traceparent"

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


@blueprint.get("/")
def index() -> Response:
    """The methods of every service, each with the path that it is called by."""
    return jsonify(
        {
            service: {
                name: url_for(".submit", service=service, method=contracts.kebab(name))
                for name in sorted(contracts.work_methods(service))
            }
            for service in current().clients.gateways
        }
    )


@blueprint.post("/<service>/<method>")
def submit(service: str, method: str) -> Response:
    """Hand the request to the service's gateway; 202 with the operation, 200 with the items of a batch."""
    gateway = current().clients.of(service)
    descriptor = contracts.resolve(service, method)
    message = message_factory.GetMessageClass(descriptor.input_type)()
    _identify(json_input.parse(request.get_data(), message))
    with _callers_span():
        answer = gateway.call(descriptor, message)
    if not isinstance(answer, operations_pb2.Operation):
        return _json(answer, 200)
    accepted = _json(answer, 202)
    owner, operation_id = split_name(answer.name)
    accepted.headers["Location"] = url_for(".get_operation", service=owner, operation_id=operation_id)
    return accepted


@blueprint.get("/operations/<service>/<operation_id>")
def get_operation(service: str, operation_id: str) -> Response:
    """The operation as google.longrunning.Operations/GetOperation gives it."""
    wanted = operations_pb2.GetOperationRequest(name=f"operations/{service}/{operation_id}")
    operations = current().clients.of(service).operations
    return _json(operations.GetOperation(wanted, timeout=CALL_TIMEOUT.total_seconds()), 200)


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
