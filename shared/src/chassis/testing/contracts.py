"""Every method that some listener serves, by the contracts that are installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

_OTLP: Final = "opentelemetry.proto.collector"
# Modules of others' contracts, and those of their services that a listener here serves.
_OTHERS: Final = {
    "google.longrunning.operations_pb2": "google.longrunning.Operations",
    "externalscaler.externalscaler_pb2": "externalscaler.ExternalScaler",
    f"{_OTLP}.metrics.v1.metrics_service_pb2": f"{_OTLP}.metrics.v1.MetricsService",
    f"{_OTLP}.trace.v1.trace_service_pb2": f"{_OTLP}.trace.v1.TraceService",
    "grpc_health.v1.health_pb2": "grpc.health.v1.Health",
    "grpc_reflection.v1alpha.reflection_pb2": "grpc.reflection.v1alpha.ServerReflection",
}


def services() -> Iterator[ServiceDescriptor]:
    """Ours, of every package below `waybill`, and those of others."""
    root = importlib.import_module("waybill")
    for folder in map(Path, root.__path__):
        for path in sorted(folder.rglob("*_pb2.py")):
            module = ".".join(("waybill", *path.relative_to(folder).with_suffix("").parts))
            yield from importlib.import_module(module).DESCRIPTOR.services_by_name.values()
    for module, name in _OTHERS.items():
        importlib.import_module(module)
        yield descriptor_pool.Default().FindServiceByName(name)


def methods() -> dict[str, MethodDescriptor]:
    """By `<package>.<Service>/<Method>`."""
    return {f"{service.full_name}/{method.name}": method for service in services() for method in service.methods}
