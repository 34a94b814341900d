"""Roles, and which of them may call a method: the `waybill.options.v1.access` of its contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from google.protobuf import descriptor_pool
from waybill.options.v1 import options_pb2


class Role(StrEnum):
    """What a caller may do; see options.proto."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    OPERATOR = "operator"
    SERVICE = "service"


EVERY_ROLE: Final = frozenset(Role)


class RuleMissingError(LookupError):
    """A method says nothing of who may call it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method: anybody, whoever has said who it is, or who has one of the roles."""

    roles: frozenset[Role] = frozenset()
    anonymous: bool = False

    @property
    def needs_a_role(self) -> bool:
        return bool(self.roles)


ANYBODY: Final = Rule(anonymous=True)
AUTHENTICATED: Final = Rule()
READERS: Final = Rule(frozenset({Role.VIEWER, Role.OPERATOR, Role.SERVICE}))
SUBMITTERS: Final = Rule(frozenset({Role.SUBMITTER, Role.OPERATOR, Role.SERVICE}))
_FOLLOW: Final = Rule(EVERY_ROLE)

# Contracts of others, which carry no option of ours.
_FOREIGN: Final[Mapping[str, Rule]] = {
    "google.longrunning.Operations/GetOperation": _FOLLOW,
    "google.longrunning.Operations/ListOperations": _FOLLOW,
    "google.longrunning.Operations/WaitOperation": _FOLLOW,
    "google.longrunning.Operations/CancelOperation": SUBMITTERS,
    "google.longrunning.Operations/DeleteOperation": Rule(frozenset({Role.OPERATOR})),
    "externalscaler.ExternalScaler/IsActive": READERS,
    "externalscaler.ExternalScaler/StreamIsActive": READERS,
    "externalscaler.ExternalScaler/GetMetricSpec": READERS,
    "externalscaler.ExternalScaler/GetMetrics": READERS,
    "opentelemetry.proto.collector.metrics.v1.MetricsService/Export": SUBMITTERS,
    "opentelemetry.proto.collector.trace.v1.TraceService/Export": SUBMITTERS,
    "grpc.health.v1.Health/Check": ANYBODY,
    "grpc.health.v1.Health/List": ANYBODY,
    "grpc.health.v1.Health/Watch": ANYBODY,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": AUTHENTICATED,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": AUTHENTICATED,
}


def rule_of(name: str) -> Rule:
    """The rule of `<package>.<Service>/<Method>`; raises RuleMissingError."""
    if name in _FOREIGN:
        return _FOREIGN[name]
    try:
        method = descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
    except KeyError:
        raise RuleMissingError(f"{name} has no contract here, so nothing says who may call it") from None
    roles = named(options_pb2.Role.Name(role) for role in method.GetOptions().Extensions[options_pb2.access].roles)
    if not roles:
        raise RuleMissingError(f"{name} has no (waybill.options.v1.access), so nobody may call it")
    return Rule(roles)


def named(names: Iterable[str]) -> frozenset[Role]:
    """Roles by name, with or without `ROLE_`; a name that is none of ours gives nothing."""
    plain = (name.strip().lower().removeprefix("role_") for name in names)
    return frozenset(Role(name) for name in plain if name in EVERY_ROLE)
