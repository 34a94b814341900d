"""google.longrunning.Operations, served by every gateway for its own service."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio

from chassis import paging
from chassis.call import margin_seconds
from chassis.descriptions import describe
from chassis.errors import FieldViolation, InvalidArgument
from chassis.event_log import EventLog
from chassis.listing import list_page, parse_filter
from chassis.operations import Operations

MAX_WAIT_SECONDS: Final = 600.0
#: A waiter looks again after so long, whatever the event log says.
LOOK_AGAIN_SECONDS: Final = 10.0
CURSOR_METADATA: Final = "waybill-cursor"


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """Get, list, wait, cancel, delete."""

    def __init__(self, operations: Operations, log: EventLog) -> None:
        self._operations = operations
        self._log = log

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: aio.ServicerContext[Any, Any]
    ) -> operations_pb2.Operation:
        return await self._operations.get(self._id(request.name))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: aio.ServicerContext[Any, Any]
    ) -> operations_pb2.ListOperationsResponse:
        """The trailing metadata has the snapshot's cursor: what happens after it comes as events, some seen already."""
        wanted = parse_filter(request.filter)
        size = paging.size(request.page_size, 50, 1000)
        cursor = await self._log.end()
        page = await list_page(
            self._operations.store,
            "ops",
            wanted,
            size=size,
            token=request.page_token,
            archive=self._operations.archive,
        )
        context.set_trailing_metadata(((CURSOR_METADATA, cursor),))
        return operations_pb2.ListOperationsResponse(
            operations=[describe(self._operations.service, stored, brief=True) for stored in page.operations],
            next_page_token=page.next_page_token,
        )

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: aio.ServicerContext[Any, Any]
    ) -> operations_pb2.Operation:
        """Answers when the operation has ended, or with its present state when timeout or deadline come first."""
        operation_id = self._id(request.name)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_seconds(request, context.time_remaining())
        while True:
            with self._log.finality(operation_id) as ended:
                operation = await self._operations.get(operation_id)
                left = until - loop.time()
                if operation.done or left <= 0:
                    return operation
                await asyncio.wait([ended], timeout=min(left, LOOK_AGAIN_SECONDS))

    async def CancelOperation(
        self, request: operations_pb2.CancelOperationRequest, context: aio.ServicerContext[Any, Any]
    ) -> Empty:
        await self._operations.cancel(self._id(request.name))
        return Empty()

    async def DeleteOperation(
        self, request: operations_pb2.DeleteOperationRequest, context: aio.ServicerContext[Any, Any]
    ) -> Empty:
        """Forgets an operation that has ended; one that has not must be cancelled first."""
        await self._operations.delete(self._id(request.name))
        return Empty()

    def _id(self, name: str) -> str:
        """The id in `operations/{service}/{id}` of this service."""
        prefix = f"operations/{self._operations.service}/"
        operation_id = name.removeprefix(prefix)
        if not name.startswith(prefix) or not operation_id or "/" in operation_id:
            raise InvalidArgument([FieldViolation("name", f"must be {prefix}<id>, is {name!r}")])
        return operation_id


def wait_seconds(request: operations_pb2.WaitOperationRequest, remaining: float | None) -> float:
    """How long to wait: the request's timeout within the caller's deadline; without both, the longest.

    Raises InvalidArgument for a timeout that is no duration.
    """
    try:
        asked = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else MAX_WAIT_SECONDS
    except (ValueError, OverflowError):
        raise InvalidArgument([FieldViolation("timeout", "is out of range")]) from None
    allowed = MAX_WAIT_SECONDS if remaining is None else remaining - margin_seconds(remaining)
    return max(0.0, min(asked, allowed, MAX_WAIT_SECONDS))
