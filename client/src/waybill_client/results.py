"""How an operation ended: its response, or why there is none.

These errors are no refusals: the calls went well, the work did not.
"""

from __future__ import annotations

from google.protobuf.message import Message

from waybill_client import contracts
from waybill_client.errors import WaybillError
from waybill_client.views import OperationView, State


class ResultError(Exception):
    """The operation has ended without a result.

    Attributes:
        operation: the handle, as it ended.
        error: its google.rpc.Status as a WaybillError: code, reason, metadata.
    """

    def __init__(self, operation: OperationView, error: WaybillError) -> None:
        self.operation = operation
        self.error = error
        super().__init__(f"{operation.name} ended as {operation.state}: {error.message}")


class OperationFailed(ResultError):
    """A permanent error, or attempts used up."""


class OperationCancelled(ResultError):
    """Somebody cancelled it."""


class OperationExpired(ResultError):
    """Its expire_time passed before an attempt began."""


class ResultTimeout(TimeoutError):
    """The operation has not ended in time; it goes on.

    Attributes:
        operation: the handle, as it stood then.
    """

    def __init__(self, operation: OperationView) -> None:
        self.operation = operation
        super().__init__(f"{operation.name} is {operation.state} still")


def response_of(operation: OperationView) -> Message:
    """Its result, unpacked. Raises ResultTimeout while it runs, ResultError when it has none."""
    if not operation.done:
        raise ResultTimeout(operation)
    if (error := operation.error) is not None:
        raise _ENDS.get(operation.state, OperationFailed)(operation, error)
    return contracts.unpacked(operation.message.response)


_ENDS = {
    State.FAILED: OperationFailed,
    State.CANCELLED: OperationCancelled,
    State.EXPIRED: OperationExpired,
}
