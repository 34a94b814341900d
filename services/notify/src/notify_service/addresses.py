"""Which addresses a webhook may reach: only public ones, unless the operator allows others.

A name is resolved once and every address it resolves to is judged; the connection goes to one of
the judged addresses and to nothing else, so that a name which resolves otherwise a moment later
(DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Network
from typing import Any, Final, TypeAlias

from notify_service.allowance import Allowance, IPAddress

#: `socket.getaddrinfo`, or what stands for it.
Resolver: TypeAlias = Callable[..., Iterable[tuple[Any, ...]]]

# Prefixes whose addresses carry an IPv4 address that a router or a translator may send to:
# IPv4-compatible (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056), each with the bits to the right of it.
_CARRIERS: Final = (
    (IPv6Network("::/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
# Not global, though some supported Python releases take them to be: IANA's special-purpose registries.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "5f00::/16", "fec0::/10")
)


class AddressForbidden(Exception):
    """The URL's host has an address that webhooks may not reach."""


class HostNotFound(Exception):
    """The URL's host has no address."""


def forbidden(address: IPAddress) -> str:
    """Why a webhook may not reach the address; "" when it may."""
    inner = _carried(address)
    if inner is not None:
        return forbidden(inner)
    kinds = {
        "a loopback": address.is_loopback,
        "a link-local": address.is_link_local,
        "a multicast": address.is_multicast,
        "an unspecified": address.is_unspecified,
        "a private": address.is_private,
        "a reserved": address.is_reserved or not address.is_global or _special(address),
    }
    return next((kind for kind, holds in kinds.items() if holds), "")


def reachable(
    host: str, port: int, allowance: Allowance, resolve: Resolver = socket.getaddrinfo
) -> list[tuple[IPAddress, int]]:
    """The host's addresses, in the resolver's order, each with its scope (0 for most).

    Raises AddressForbidden if any of them is neither public nor allowed, HostNotFound if there is none.
    """
    try:
        answers = list(resolve(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        raise HostNotFound(f"{host!r} cannot be resolved: {error}") from error
    found = dict.fromkeys(_address(answer[4]) for answer in answers)
    if not found:
        raise HostNotFound(f"{host!r} has no address")
    for address, _ in found:
        kind = forbidden(address)
        if kind and not allowance.covers(host, _plain(address)):
            raise AddressForbidden(
                f"{host!r} has {kind} address, {address}; webhooks reach public addresses only, "
                "and what NOTIFY_WEBHOOK_ALLOW_PRIVATE names"
            )
    return list(found)


def _carried(address: IPAddress) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return None
    shift = next((shift for network, shift in _CARRIERS if address in network), None)
    return None if shift is None else IPv4Address(int(address) >> shift & 0xFFFF_FFFF)


def _plain(address: IPAddress) -> IPAddress:
    """Without what makes the same address look different: the mapping of IPv4 into IPv6."""
    return _carried(address) or address


def _special(address: IPAddress) -> bool:
    return any(address.version == network.version and address in network for network in _SPECIAL)


def _address(sockaddr: Sequence[Any]) -> tuple[IPAddress, int]:
    host = str(sockaddr[0]).partition("%")[0]
    scope = sockaddr[3] if len(sockaddr) > 3 else 0  # noqa: PLR2004 - IPv6: host, port, flow, scope
    return ipaddress.ip_address(host), int(scope)
