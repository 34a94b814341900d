"""What a process was built from: the version of its service, and its contracts as a short hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from waybill.store.v1 import store_pb2

if TYPE_CHECKING:
    from chassis.worker import ServiceApp

_DIGITS: Final = 12


def version_of(service: str) -> str:
    """The installed version of a service's distribution."""
    try:
        return version(f"waybill-{service}")
    except PackageNotFoundError:
        return "0"


def contract_hash(app: ServiceApp) -> str:
    """Hex digits of what a gateway and a worker of the service must agree on.

    Hashed are the names of its tasks and the proto files of their requests and responses and of the store's records,
    with all that those import. Comments do not count. Equal means that neither is older than the other in this;
    different ones work together as long as the contracts have changed as `buf breaking` allows.
    """
    digest = hashlib.sha256()
    for name in sorted(app.operation_tasks):
        digest.update(f"{name}\n".encode())
    for content in _files(app):
        digest.update(content)
    return digest.hexdigest()[:_DIGITS]


def _files(app: ServiceApp) -> list[bytes]:
    found: dict[str, bytes] = {}
    tasks = app.operation_tasks.values()
    types = (kind for task in tasks for kind in (task.request_type, task.response_type) if kind is not None)
    _gather((kind.DESCRIPTOR.file for kind in types), found)
    _gather([store_pb2.DESCRIPTOR], found)
    return [found[name] for name in sorted(found)]


def _gather(files: Iterable[Any], found: dict[str, bytes]) -> None:
    for file in files:
        if file.name not in found:
            found[file.name] = file.serialized_pb
            _gather(file.dependencies, found)
