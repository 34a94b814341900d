"""`--set field=value` as a message: the fields that replace those of a payload."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message
from waybill_client import JsonError, contracts


def patch(original: Message, assignments: Iterable[str]) -> Message:
    """A message of the original's type with these fields set; `a.b=1` is field b of a. Values are JSON, else texts.

    Raises JsonError with everything that is wrong, a value that means "not set" in a patch included.
    """
    descriptor: Any = original.DESCRIPTOR
    fields: dict[str, Any] = {}
    problems = []
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not (path and equals):
            problems.append(f"{assignment}: expected field=value")
        else:
            _put(fields, path.split("."), _value(value))
    problems += contracts.problems(descriptor, fields)
    if problems:
        raise JsonError(problems)
    message = contracts.message_from_json(json.dumps(fields), descriptor)
    if unset := [name for name in fields if not _is_set(message, name)]:
        raise JsonError([f"{name}: a patch cannot set a field to its default; edit one by one" for name in unset])
    return message


def merged(payload: Message, change: Message) -> Message:
    """The payload with the fields that are set in `change`, repeated fields and maps as a whole."""
    result = type(payload)()
    result.CopyFrom(payload)
    for field, _ in change.ListFields():
        if field.is_repeated or field.message_type is None:
            result.ClearField(field.name)
    result.MergeFrom(change)
    return result


def _put(fields: dict[str, Any], path: list[str], value: object) -> None:
    for name in path[:-1]:
        inner = fields.setdefault(name, {})
        if not isinstance(inner, dict):
            raise JsonError([f"{'.'.join(path)}: {name} has a value already"])
        fields = inner
    fields[path[-1]] = value


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_set(message: Message, name: str) -> bool:
    set_fields = {field.name for field, _ in message.ListFields()}
    set_fields |= {field.json_name for field, _ in message.ListFields()}
    return name in set_fields
