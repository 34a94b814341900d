"""What went wrong, in words, and the exit code that says so to a script."""

from __future__ import annotations

import grpc
from chassis import statuses
from google.rpc import status_pb2
from waybill.operations.v1 import operations_pb2

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_UNAVAILABLE = 4
# `wait` and `submit --wait`: how the operation ended.
EXIT_FAILED = 10
EXIT_CANCELLED = 11
EXIT_EXPIRED = 12
EXIT_NOT_DONE = 13

EXIT_CODES = """\
Exit codes: 0 done; 1 refused; 2 wrong usage or invalid argument; 3 not found; 4 unavailable. Of an operation
that was waited for: 10 FAILED, 11 CANCELLED, 12 EXPIRED, 13 not done in time."""

_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: EXIT_USAGE,
    grpc.StatusCode.NOT_FOUND: EXIT_NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: EXIT_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: EXIT_UNAVAILABLE,
}
_BY_STATE = {
    operations_pb2.OPERATION_STATE_SUCCEEDED: 0,
    operations_pb2.OPERATION_STATE_FAILED: EXIT_FAILED,
    operations_pb2.OPERATION_STATE_CANCELLED: EXIT_CANCELLED,
    operations_pb2.OPERATION_STATE_EXPIRED: EXIT_EXPIRED,
}


def exit_code_of_call(error: grpc.RpcError) -> int:
    """Of a call that was not answered."""
    return _BY_CODE.get(error.code(), EXIT_REFUSED)


def exit_code_of_state(state: operations_pb2.OperationState.ValueType) -> int:
    """Of an operation that was waited for."""
    return _BY_STATE.get(state, EXIT_NOT_DONE)


def call_text(error: grpc.RpcError) -> str:
    """Code, message and reason; every field violation on a line of its own; when to come again."""
    return status_text(statuses.rpc_status(error))


def status_text(status: status_pb2.Status) -> str:
    """As `call_text`, of a Status."""
    code = statuses.status_code(status).name
    reason = statuses.reason_of(status)
    lines = [f"{code}: {status.message}" + (f" ({reason})" if reason != code else "")]
    lines += [f"  {v.field or 'request'}: {v.description}" for v in statuses.violations_of(status)]
    if (delay := statuses.retry_delay(status)) is not None:
        lines.append(f"  try again in {delay.total_seconds():g} s")
    return "\n".join(lines)
