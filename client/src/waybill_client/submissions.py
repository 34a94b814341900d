"""What is called and with what: a request message, or a method's name and its fields. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from waybill_client import contracts

# A request; or a method by its descriptor or its name (`reports.RenderReport`, `reports/render-report`).
Callee = Message | MethodDescriptor | str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that is ready to be sent."""

    path: str
    request: Message
    answer: type[Message]

    @property
    def accepts_work(self) -> bool:
        """Whether an operation is what it answers."""
        return self.answer.DESCRIPTOR.full_name == operations_pb2.Operation.DESCRIPTOR.full_name


def prepare(callee: Callee, payload: Message | Mapping[str, Any] | None = None, request_id: str = "") -> Prepared:
    """The call; a request that has a `request_id` and says none gets this one, or a random one.

    Raises MethodError for a method that no installed contract has, JsonError with every field of a mapping that does
    not fit, TypeError for a message that is not what the method takes. The caller's message stays as it is.
    """
    method, given = _method_and_request(callee, payload)
    if given.DESCRIPTOR.full_name != method.input_type.full_name:
        raise TypeError(f"{method.full_name} takes a {method.input_type.full_name}, not a {given.DESCRIPTOR.full_name}")
    request = type(given)()
    request.CopyFrom(given)
    if "request_id" in method.input_type.fields_by_name and (request_id or not getattr(request, "request_id")):  # noqa: B009
        setattr(request, "request_id", request_id or str(uuid.uuid4()))  # noqa: B010 - known by descriptor alone
    answer = message_factory.GetMessageClass(method.output_type)
    return Prepared(f"/{method.containing_service.full_name}/{method.name}", request, answer)


def _method_and_request(
    callee: Callee, payload: Message | Mapping[str, Any] | None
) -> tuple[MethodDescriptor, Message]:
    if isinstance(callee, Message):
        if payload is not None:
            raise TypeError("a request message is the payload: the second argument goes with a method's name")
        return contracts.method_of(callee), callee
    method = contracts.parse_method(callee) if isinstance(callee, str) else callee
    if isinstance(payload, Message):
        return method, payload
    problems = contracts.problems(method.input_type, payload or {})
    if problems:
        raise contracts.JsonError(problems)
    return method, json_format.ParseDict(dict(payload or {}), message_factory.GetMessageClass(method.input_type)())
