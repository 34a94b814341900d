"""Payloads as clients see them: fields that the contract marks `debug_redact` are blanked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

REDACTED: Final = "[redacted]"


def redacted(payload: AnyMessage) -> AnyMessage:
    """The payload with marked texts replaced and other marked fields cleared; itself where nothing is marked.

    A type that this process does not know is returned as it is: its owner has redacted it.
    """
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(payload.TypeName())
    except KeyError:
        return payload
    if not is_sensitive(descriptor):
        return payload
    message = message_factory.GetMessageClass(descriptor)()
    payload.Unpack(message)
    _blank(message)
    answer = AnyMessage()
    answer.Pack(message)
    return answer


@cache
def is_sensitive(descriptor: Descriptor) -> bool:
    """Whether a marked field can be reached from this message type."""
    seen: set[str] = set()
    waiting = [descriptor]
    while waiting:
        current = waiting.pop()
        if current.full_name in seen:
            continue
        seen.add(current.full_name)
        for field in current.fields:
            if field.GetOptions().debug_redact:
                return True
            if field.message_type is not None:
                waiting.append(field.message_type)
    return False


def _blank(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().debug_redact:
            _blank_field(message, field)
        elif field.message_type is not None:
            for part in _parts(value):
                _blank(part)


def _blank_field(message: Message, field: FieldDescriptor) -> None:
    is_text = field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
    message.ClearField(field.name)
    if is_text:
        setattr(message, field.name, REDACTED)


def _parts(value: Any) -> list[Message]:
    """The messages in a message field: one, many, or the values of a map."""
    if isinstance(value, Message):
        return [value]
    values = value.values() if isinstance(value, Mapping) else value
    return [part for part in values if isinstance(part, Message)]
