"""What the services' contracts offer, read from their descriptors."""

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import waybill
from chassis.errors import NotFound
from google.longrunning import operations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

# Beside Waybill's own: the types that the details of a Status are packed in.
_FURTHER = ("google.rpc.error_details_pb2",)
_OPERATION = operations_pb2.Operation.DESCRIPTOR.full_name
_INTERNAL_PACKAGE = "store"


@cache
def load() -> None:
    """Import every contract, so that any payload of theirs can be printed."""
    for name in _FURTHER:
        importlib.import_module(name)
    # Namespace packages have no __init__.py, by which pkgutil would find what is below them.
    for root in map(Path, waybill.__path__):
        for found in sorted(root.rglob("*_pb2.py")):
            importlib.import_module(".".join(("waybill", *found.relative_to(root).with_suffix("").parts)))


@cache
def work_methods(service: str) -> dict[str, MethodDescriptor]:
    """The unary methods of `waybill.<service>.v1` that accept work, by their exact names."""
    package = f"waybill.{service}.v1"
    if service == _INTERNAL_PACKAGE or not service.isidentifier() or importlib.util.find_spec(package) is None:
        return {}
    return {method.name: method for method in _methods(package) if _is_unary(method) and _accepts_work(method)}


def resolve(service: str, name: str) -> MethodDescriptor:
    """The method by its exact name or in kebab case, `RenderReport` or `render-report`; raises NotFound."""
    methods = work_methods(service)
    found = methods.get(name) or next((each for each in methods.values() if kebab(each.name) == name), None)
    if found is None:
        known = ", ".join(sorted(map(kebab, methods))) or "none"
        raise NotFound(
            f"{service} has no method {name!r} that accepts work; those that do: {known}",
            reason="METHOD_NOT_FOUND",
            metadata={"service": service, "method": name},
            domain="dashboard",
        )
    return found


def kebab(name: str) -> str:
    """`BatchSendNotifications` as `batch-send-notifications`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _methods(package: str) -> Iterator[MethodDescriptor]:
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if found.name.endswith("_pb2"):
            descriptor = importlib.import_module(f"{package}.{found.name}").DESCRIPTOR
            for each in descriptor.services_by_name.values():
                yield from each.methods


def _is_unary(method: MethodDescriptor) -> bool:
    return not method.client_streaming and not method.server_streaming


def _accepts_work(method: MethodDescriptor) -> bool:
    return method.output_type.full_name == _OPERATION or _is_batch(method.output_type)


def _is_batch(output: Descriptor) -> bool:
    """Whether an answer holds, in a repeated field, one operation or one error for each request."""
    return any(
        field.is_repeated and field.message_type is not None and any(map(_is_operation, field.message_type.fields))
        for field in output.fields
    )


def _is_operation(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == _OPERATION
