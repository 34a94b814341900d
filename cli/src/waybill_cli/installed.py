"""The services that are installed beside the command, by the entry point that each declares in its pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from itertools import count

from chassis.process import Service
from chassis.settings import host_and_port

GROUP = "waybill.services"
# Beside a gateway and a worker, which every service has.
_FURTHER_ROLES = ("scheduler", "subscriber")


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a process listens: the variable that sets it, its default, its place above --port-base."""

    variable: str
    default: str
    offset: int


_DASHBOARD: Mapping[str, Listener] = {
    "dashboard": Listener("DASHBOARD_LISTEN", "127.0.0.1:8080", 3),
    "traces": Listener("DASHBOARD_TRACES_LISTEN", "127.0.0.1:50054", 4),
}


@cache
def services() -> Mapping[str, tuple[str, ...]]:
    """Service to the processes that it has beside gateway and worker, in the order of their default ports."""
    return {service.name: tuple(_further(service)) for service in _declared()}


@cache
def listeners() -> Mapping[str, Listener]:
    """Every listener that a stack may open, by the name that --listen takes."""
    taken = {listener.offset for listener in _DASHBOARD.values()}
    offsets = (offset for offset in count() if offset not in taken)
    own = {
        service.name: Listener(f"{service.name.upper()}_LISTEN", _default(service), next(offsets))
        for service in _declared()
    }
    return {**own, **_DASHBOARD}


@cache
def _declared() -> tuple[Service, ...]:
    found: dict[str, Service] = {point.name: point.load() for point in entry_points(group=GROUP)}
    return tuple(sorted(found.values(), key=lambda service: host_and_port(_default(service))[1]))


def _default(service: Service) -> str:
    return str(service.settings.model_fields["listen"].default)


def _further(service: Service) -> Iterator[str]:
    return (role for role in _FURTHER_ROLES if getattr(service, role))
