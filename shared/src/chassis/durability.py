"""Whether the server keeps what WAYBILL_DURABILITY promises: its configuration against the setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from chassis.logging import get_logger
from chassis.settings import WaybillSettings
from chassis.store import Store

log = get_logger(__name__)

#: Names of the server's settings that are looked at.
CONFIGURATION: Final = ("appendonly", "appendfsync", "maxmemory-policy")


def shortcomings(waybill: WaybillSettings, configuration: Mapping[Any, Any], replicas: int) -> list[str]:
    """What of the server breaks the promise, each with what to set; `replicas`: how many are online."""
    found = []
    if configuration.get("appendonly") != "yes":
        found.append("a restart forgets everything: set appendonly yes on the server")
    fsync = configuration.get("appendfsync")
    if waybill.durability == "always" and fsync != "always":
        found.append(
            f"a crash loses what was acknowledged (appendfsync {fsync}): set appendfsync always on the server, "
            "or WAYBILL_DURABILITY=everysec to accept that"
        )
    elif fsync not in {"always", "everysec"}:
        found.append(f"nothing bounds what a crash loses (appendfsync {fsync}): set appendfsync everysec on the server")
    policy = configuration.get("maxmemory-policy")
    if policy != "noeviction":
        found.append(f"a full server drops keys (maxmemory-policy {policy}): set maxmemory-policy noeviction on it")
    if replicas < waybill.awaited_replicas:
        found.append(
            f"{replicas} of {waybill.awaited_replicas} replicas are online: connect more, or lower WAYBILL_REPLICAS"
        )
    return found


def online_replicas(replication: Mapping[str, Any]) -> int:
    """Of INFO: replicas that have what the server has, and are sent what it gets."""
    states = [fact.get("state") for name, fact in replication.items() if _is_replica(name) and isinstance(fact, dict)]
    return states.count("online")


def _is_replica(name: str) -> bool:
    return name.startswith("slave") and name.removeprefix("slave").isdigit()


def say(waybill: WaybillSettings, found: Sequence[str]) -> None:
    """An error in the log for whoever runs the server; nothing where nothing is wrong."""
    if found:
        log.error("durability.not_kept", durability=waybill.durability, found=list(found))


def look(store: Store, waybill: WaybillSettings) -> None:
    """Say once what is wrong, as a process does that has no health; in an outage nothing is known."""
    try:
        configuration = store.client.config_get(*CONFIGURATION)
        replication = store.client.info("replication") if waybill.awaited_replicas else {}
    except RedisError as error:
        log.warning("durability.unknown", error=str(error))
        return
    say(waybill, shortcomings(waybill, configuration, online_replicas(replication)))
