"""What the services' contracts offer, read from their descriptors: methods by name, and messages from JSON."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import waybill
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

# Beside Waybill's own: the types that the details of a Status are packed in.
_FURTHER = ("google.rpc.error_details_pb2",)
# Contracts that no gateway serves.
_INTERNAL = {"store", "operations"}

M = TypeVar("M", bound=Message)


class MethodError(Exception):
    """There is no such service or method."""


class JsonError(Exception):
    """The JSON does not fit the message; carries every reason."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@cache
def load() -> None:
    """Import every contract, so that any payload of theirs can be printed."""
    for name in (*_FURTHER, *_modules()):
        importlib.import_module(name)


def services() -> list[str]:
    """Names of what has methods: `metrics`, `reports`, and those that every gateway has."""
    return sorted({name.split(".")[1] for name in _modules()} - _INTERNAL)


def methods(service: str, *, streaming: bool = False) -> dict[str, MethodDescriptor]:
    """The unary methods of `waybill.<service>.v1` by name, `streaming`: all; raises MethodError for what is none."""
    names = [name for name in _modules() if name.startswith(f"waybill.{service}.v1.")]
    if not names or service in _INTERNAL:
        raise MethodError(f"there is no service {service!r}; there are {', '.join(services())}")
    files = [importlib.import_module(name).DESCRIPTOR for name in names]
    each = (method for file in files for found in file.services_by_name.values() for method in found.methods)
    return {found.name: found for found in each if streaming or not (found.client_streaming or found.server_streaming)}


def method(service: str, name: str) -> MethodDescriptor:
    """`RenderReport` or `render-report` of `reports`; raises MethodError."""
    known = methods(service)
    found = known.get(name) or next((known[each] for each in known if kebab(each) == name), None)
    if found is None:
        raise MethodError(f"{service} has no method {name!r}; it has {', '.join(map(kebab, known))}")
    return found


def method_of(request: Message) -> MethodDescriptor:
    """The method that takes this message, from the contract that holds both; raises MethodError."""
    wanted = request.DESCRIPTOR.full_name
    for service in request.DESCRIPTOR.file.services_by_name.values():
        for found in cast("list[MethodDescriptor]", service.methods):
            if found.input_type.full_name == wanted:
                return found
    raise MethodError(f"no method of {request.DESCRIPTOR.file.name} takes a {wanted}")


def parse_method(name: str) -> MethodDescriptor:
    """`reports.RenderReport`, `reports/render-report` or the full name with its package; raises MethodError."""
    service, _, found = name.replace("/", ".").rpartition(".")
    if not service:
        raise MethodError(f"{name!r}: expected SERVICE.METHOD, as reports.RenderReport")
    return method(service.removeprefix("waybill.").partition(".")[0], found)


def unpacked(packed: AnyMessage) -> Message:
    """What an Any holds; raises TypeError for a type that no installed contract has."""
    load()
    try:
        kind = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
    except KeyError:
        raise TypeError(f"no installed contract has the type {packed.TypeName()!r}") from None
    message = message_factory.GetMessageClass(kind)()
    packed.Unpack(message)
    return message


def kebab(name: str) -> str:
    """`BatchSendNotifications` as `batch-send-notifications`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def message_from_json(text: str, descriptor: Descriptor) -> Message:
    """A message from protobuf JSON; raises JsonError with every field that is wrong."""
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise JsonError([f"not JSON: {error}"]) from error
    if found := problems(descriptor, value):
        raise JsonError(found)
    try:
        return json_format.ParseDict(value, message_factory.GetMessageClass(descriptor)())
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise JsonError([str(error)]) from error


def problems(descriptor: Descriptor, value: object) -> list[str]:
    """Every field of a JSON value that does not fit the message; empty where all do."""
    return [] if _is_well_known(descriptor) else list(_problems(descriptor, value, ""))


def to_json(message: Message) -> dict[str, Any]:
    """A message as protobuf JSON, with fields named as in the contract."""
    load()
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _problems(descriptor: Descriptor, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or 'the request'}: expected an object"
        return
    for key, item in value.items():
        field = descriptor.fields_by_name.get(key) or descriptor.fields_by_camelcase_name.get(key)
        where = f"{path}.{key}" if path else key
        if field is None:
            yield f"{where}: unknown; {descriptor.name} has {', '.join(f.name for f in descriptor.fields)}"
        else:
            yield from _field_problems(descriptor, field, item, where)


def _field_problems(owner: Descriptor, field: FieldDescriptor, item: object, where: str) -> Iterator[str]:
    inner = _own_type(field)
    if inner is not None and not field.is_repeated and item is not None:
        yield from _problems(inner, item, where)
    elif inner is not None and isinstance(item, list):
        for index, each in enumerate(item):
            yield from _problems(inner, each, f"{where}[{index}]")
    else:
        try:
            json_format.ParseDict({field.name: item}, message_factory.GetMessageClass(owner)())
        except (json_format.ParseError, ValueError) as error:
            yield f"{where}: {error}"


def _own_type(field: FieldDescriptor) -> Descriptor | None:
    """The type of a field that is read field by field; None for scalars, maps and well-known types."""
    kind = field.message_type
    if kind is None or kind.GetOptions().map_entry or _is_well_known(kind):
        return None
    return kind


def _is_well_known(kind: Descriptor) -> bool:
    """Whether protobuf JSON has a form of its own for it."""
    return kind.file.package == "google.protobuf"


@cache
def _modules() -> tuple[str, ...]:
    """Every contract's module. Namespace packages have no finder that lists them: their folders are read."""
    roots = [Path(root) for root in cast("Any", waybill).__path__]
    found = [path.relative_to(root.parent) for root in roots for path in root.rglob("*_pb2.py")]
    return tuple(sorted(".".join(path.with_suffix("").parts) for path in found))
