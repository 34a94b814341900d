"""What the services' contracts offer, read from their descriptors."""

import importlib
import re
from functools import cache
from pathlib import Path

import waybill
from chassis.errors import NotFound
from google.longrunning import operations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor

# Beside Waybill's own: the types that the details of a Status are packed in.
_FURTHER = ("google.rpc.error_details_pb2",)
_OPERATION = operations_pb2.Operation.DESCRIPTOR.full_name


@cache
def load() -> tuple[FileDescriptor, ...]:
    """Import every contract, so that any payload of theirs can be printed; the files of Waybill's own."""
    for name in _FURTHER:
        importlib.import_module(name)
    # Namespace packages have no __init__.py, by which pkgutil would find what is below them.
    found = {
        ".".join(("waybill", *path.relative_to(root).with_suffix("").parts))
        for root in map(Path, waybill.__path__)
        for path in root.rglob("*_pb2.py")
    }
    return tuple(importlib.import_module(name).DESCRIPTOR for name in sorted(found))


@cache
def work_methods(service: str) -> dict[str, MethodDescriptor]:
    """The unary methods of `waybill.<service>.v1` that accept work, by their exact names."""
    methods = [
        method
        for file in load()
        if file.package == f"waybill.{service}.v1"
        for each in file.services_by_name.values()
        for method in each.methods
    ]
    return {method.name: method for method in methods if _is_unary(method) and _accepts_work(method)}


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
