"""Server reflection: a stock client lists, describes and calls every service through any one gateway."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from chassis.logging import get_logger
from chassis.settings import WaybillSettings

# The messages of v1 are those of v1alpha; newer clients ask for v1 first.
NAME: Final = reflection.SERVICE_NAME
NAME_V1: Final = "grpc.reflection.v1.ServerReflection"

log = get_logger()


def public_services(waybill: WaybillSettings) -> list[str]:
    """Full names of what the owners in WAYBILL_ROUTES serve, as far as their contracts are installed here."""
    packages = [f"waybill.{service}.v1" for service in waybill.targets]
    return sorted(service for package in (*packages, *waybill.packages) for service in _services_of(package))


def registration(services: Iterable[str]) -> tuple[Any, Any]:
    """What `Gateway.add` takes: reflection over these services and itself."""
    servicer = reflection.aio.ReflectionServicer({*services, NAME}, pool=_SymbolPool())
    return reflection_pb2_grpc.add_ServerReflectionServicer_to_server, servicer


class _SymbolPool:
    """The default pool, where the symbol of a method, a field or an enum's value leads to its file too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        pool = descriptor_pool.Default()
        try:
            return pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return pool.FindFileContainingSymbol(symbol.rpartition(".")[0])


def _services_of(package: str) -> Iterator[str]:
    try:
        folder = importlib.import_module(package).__path__
    except ModuleNotFoundError:
        log.info("reflection.no_contract", package=package)
        return
    for module in pkgutil.iter_modules(folder):
        if module.name.endswith("_pb2"):
            described = importlib.import_module(f"{package}.{module.name}").DESCRIPTOR
            yield from _services_in(described)


def _services_in(file: FileDescriptor) -> Iterator[str]:
    yield from (service.full_name for service in file.services_by_name.values())


def methods_of(service: str) -> list[str]:
    """The names of a service's methods; raises KeyError for a service whose contract is not imported."""
    return [method.name for method in descriptor_pool.Default().FindServiceByName(service).methods]
