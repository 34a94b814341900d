"""What went wrong, in words and as JSON, and the exit code that says so to a script."""

from __future__ import annotations

from typing import Any

import grpc
from waybill_client import State, WaybillError, errors

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_UNAVAILABLE = 4
# `wait`, `watch NAME` and `submit --wait`: how the operation ended.
EXIT_FAILED = 10
EXIT_CANCELLED = 11
EXIT_EXPIRED = 12
EXIT_NOT_DONE = 13
EXIT_INTERRUPTED = 130

EXIT_CODES = """\
Exit codes: 0 done; 1 refused; 2 wrong usage or invalid argument; 3 not found; 4 unavailable, or no answer in time;
130 interrupted. Of an operation that was waited for: 10 FAILED, 11 CANCELLED, 12 EXPIRED, 13 not done in time."""

_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: EXIT_USAGE,
    grpc.StatusCode.NOT_FOUND: EXIT_NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: EXIT_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: EXIT_UNAVAILABLE,
}
_BY_STATE = {
    State.SUCCEEDED: 0,
    State.FAILED: EXIT_FAILED,
    State.CANCELLED: EXIT_CANCELLED,
    State.EXPIRED: EXIT_EXPIRED,
}


def exit_code_of_call(error: WaybillError) -> int:
    """Of a call that was not answered."""
    return _BY_CODE.get(error.code, EXIT_REFUSED)


def exit_code_of_state(state: State) -> int:
    """Of an operation that was waited for."""
    return _BY_STATE.get(state, EXIT_NOT_DONE)


def call_text(error: WaybillError | grpc.RpcError) -> str:
    """Code, message and reason; every field violation on a line of its own; when to come again."""
    if isinstance(error, grpc.RpcError):
        error = errors.from_call(error)
    code = error.code.name
    lines = [f"{code}: {error.message}" + (f" ({error.reason})" if error.reason != code else "")]
    lines += [f"  {each.field or 'request'}: {each.description}" for each in error.violations]
    if error.retry_after is not None:
        lines.append(f"  try again in {error.retry_after.total_seconds():g} s")
    return "\n".join(lines)


def call_json(error: WaybillError) -> dict[str, Any]:
    """The same for programs; what the server did not say is left out."""
    said = {
        "code": error.code.name,
        "message": error.message,
        "reason": error.reason,
        "domain": error.domain,
        "metadata": error.metadata,
        "violations": [{"field": each.field, "description": each.description} for each in error.violations],
        "retry_after_seconds": error.retry_after.total_seconds() if error.retry_after is not None else None,
    }
    return {key: value for key, value in said.items() if value not in ("", {}, [], None)}
