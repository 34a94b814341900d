"""Hand work to a Waybill gateway and follow it to its end.

    import waybill_client
    from waybill.reports.v1 import reports_pb2

    with waybill_client.connect("127.0.0.1:50051") as client:
        operation = client.submit(reports_pb2.RenderReportRequest(template_id="standard", title="Weekly"))
        response = operation.result()

`waybill_client.aio.connect` is the same for asyncio. The contracts' messages are the ones that stock gRPC takes.
"""

from waybill_client import aio
from waybill_client.blocking import Client, Operation, Operations, Stream, connect
from waybill_client.connection import CALL_TIMEOUT, PATIENCE, Tls
from waybill_client.contracts import JsonError, MethodError
from waybill_client.errors import (
    AlreadyExists,
    Cancelled,
    CursorExpired,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    WaybillError,
)
from waybill_client.listing import Page
from waybill_client.results import OperationCancelled, OperationExpired, OperationFailed, ResultError, ResultTimeout
from waybill_client.views import Change, Progress, Received, State

__all__ = [
    "CALL_TIMEOUT",
    "PATIENCE",
    "AlreadyExists",
    "Cancelled",
    "Change",
    "Client",
    "CursorExpired",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "InvalidArgument",
    "JsonError",
    "MethodError",
    "NotFound",
    "Operation",
    "OperationCancelled",
    "OperationExpired",
    "OperationFailed",
    "Operations",
    "OutOfRange",
    "Page",
    "PermissionDenied",
    "Progress",
    "Received",
    "ResourceExhausted",
    "ResultError",
    "ResultTimeout",
    "State",
    "Stream",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "WaybillError",
    "aio",
    "connect",
]
