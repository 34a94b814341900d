"""What the operator lets webhooks reach beside public addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the operator allows beside public addresses: everything, hosts by name, networks."""

    everything: bool = False
    hosts: frozenset[str] = frozenset()
    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> Allowance:
        """From `all`, host names, addresses and networks. Raises ValueError for any other word."""
        if any(word.lower() in {"all", "1", "true", "yes", "on"} for word in words):
            return cls(everything=True)
        named = [word for word in words if word.lower() not in {"0", "false", "no", "off", "none"}]
        networks = {word: _network(word) for word in named}
        hosts = [word.lower() for word, network in networks.items() if network is None]
        for host in hosts:
            if not all(label.replace("-", "").isalnum() for label in host.split(".")):
                raise ValueError(f"{host!r} is no host name, address or network")
        return cls(hosts=frozenset(hosts), networks=tuple(network for network in networks.values() if network))

    def covers(self, host: str, address: IPAddress) -> bool:
        """Whether that address of that host is allowed, public or not."""
        if self.everything or host.lower() in self.hosts:
            return True
        return any(address.version == network.version and address in network for network in self.networks)


def _network(word: str) -> IPNetwork | None:
    try:
        return ipaddress.ip_network(word.strip("[]"), strict=False)
    except ValueError:
        if "/" in word:
            raise
        return None
