"""A delivery in the hands of a worker."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from waybill.store.v1 import store_pb2

from chassis.store_calls import Delivery


@dataclass(frozen=True, slots=True)
class WorkItem:
    """What the process that runs an attempt is given of it."""

    operation_id: str
    #: Unique to this delivery of the operation.
    delivery: str
    #: Serialized OperationRecord.
    record: bytes
    task: str
    queue: str
    #: Which attempt it is, from 1.
    number: int
    max_attempts: int
    #: Its fencing token and its span: the store's where it has begun, new ones for the begin that is still to come.
    token: str
    span_id: bytes
    begun: bool
    #: How long it had been due when it was fetched.
    waited_seconds: float = 0.0

    @classmethod
    def of(cls, delivery: Delivery) -> WorkItem:
        begun = delivery.begun
        return cls(
            operation_id=delivery.operation_id,
            delivery=delivery.delivery,
            record=delivery.record,
            task=delivery.task,
            queue=delivery.queue,
            number=delivery.attempts + 1,
            max_attempts=delivery.max_attempts,
            token=begun.token if begun else secrets.token_hex(8),
            span_id=begun.span_id if begun else secrets.token_bytes(8),
            begun=begun is not None,
            waited_seconds=delivery.waited.total_seconds(),
        )

    def parsed(self) -> store_pb2.OperationRecord:
        """What was fixed at acceptance."""
        return store_pb2.OperationRecord.FromString(self.record)
