"""Protobuf JSON into a message, with everything that is wrong at once.

`json_format` stops at the first error; here each field is read by itself, so that a client learns all of them.
"""

import json
from collections.abc import Iterator
from typing import Any, TypeVar, cast

from chassis.errors import FieldViolation, InvalidArgument
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_MAX_DESCRIPTION = 300

M = TypeVar("M", bound=Message)


def parse(text: bytes | str, message: M) -> M:
    """Fill `message` from JSON text; raises InvalidArgument with every violation."""
    try:
        value = json.loads(text or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(
            [FieldViolation("", f"the body is not JSON: {error}")], reason="INVALID_JSON", domain="dashboard"
        ) from error
    violations = list(_message(_descriptor(message), value, ""))
    if violations:
        raise InvalidArgument(violations, reason="INVALID_REQUEST", domain="dashboard")
    return _read(value, message, "")


def _read(value: Any, message: M, path: str) -> M:
    try:
        return json_format.ParseDict(value, message)
    except (json_format.ParseError, RecursionError) as error:
        violation = FieldViolation(path, _reason(error))
        raise InvalidArgument([violation], reason="INVALID_REQUEST", domain="dashboard") from error


def _descriptor(message: Message) -> Descriptor:
    return cast("Descriptor", message.DESCRIPTOR)


def _message(descriptor: Descriptor, value: Any, path: str) -> Iterator[FieldViolation]:
    if not isinstance(value, dict):
        yield FieldViolation(path, f"expected an object, {_fields(descriptor)}")
        return
    for key, item in value.items():
        field = _field(descriptor, key)
        name = f"{path}.{key}" if path else key
        if field is None:
            yield FieldViolation(name, f"unknown field; expected {_fields(descriptor)}")
        elif item is not None:
            yield from _value(descriptor, field, item, f"{path}.{field.name}" if path else field.name)


def _value(owner: Descriptor, field: FieldDescriptor, item: Any, path: str) -> Iterator[FieldViolation]:
    inner = _plain_message(field)
    if inner is None:
        yield from _leaf(owner, field, item, path)
    elif not field.is_repeated:
        yield from _message(inner, item, path)
    elif not isinstance(item, list):
        yield FieldViolation(path, "expected an array")
    else:
        for index, each in enumerate(item):
            yield from _message(inner, each, f"{path}[{index}]")


def _leaf(owner: Descriptor, field: FieldDescriptor, item: Any, path: str) -> Iterator[FieldViolation]:
    """A scalar, an enum, a map or a well-known type: read by itself, in a message of its own."""
    try:
        json_format.ParseDict({field.name: item}, message_factory.GetMessageClass(owner)())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        yield FieldViolation(path, _reason(error))


def _plain_message(field: FieldDescriptor) -> Descriptor | None:
    """The type of a field whose own fields are read one by one; None for scalars, maps and well-known types."""
    kind = field.message_type
    if kind is None or kind.GetOptions().map_entry or kind.file.package == "google.protobuf":
        return None
    return kind


def _field(descriptor: Descriptor, key: str) -> FieldDescriptor | None:
    by_json = {field.json_name: field for field in descriptor.fields}
    return descriptor.fields_by_name.get(key) or by_json.get(key)


def _fields(descriptor: Descriptor) -> str:
    names = ", ".join(field.json_name for field in descriptor.fields)
    return f"fields of {descriptor.name}: {names}" if names else f"{descriptor.name} has no fields"


def _reason(error: Exception) -> str:
    return str(error)[:_MAX_DESCRIPTION]
