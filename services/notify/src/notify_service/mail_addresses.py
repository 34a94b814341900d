"""Mail addresses, and what is taken as one."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.utils import getaddresses
from typing import Final

# RFC 5321 without quoted local parts and address literals; a name beyond ASCII is written in punycode.
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_MAX_LOCAL_PART: Final = 64
_MAX_DOMAIN: Final = 253


def is_address(address: str) -> bool:
    """Whether it is one mail address, `name@domain`."""
    local, at, domain = address.rpartition("@")
    labels = domain.split(".")
    return bool(
        at
        and len(local) <= _MAX_LOCAL_PART
        and _LOCAL_PART.fullmatch(local)
        and len(domain) <= _MAX_DOMAIN
        and all(_LABEL.fullmatch(label) for label in labels)
    )


def address_of(sender: str) -> Address:
    """`Name <name@domain>` or `name@domain`, taken apart. Raises ValueError for anything else."""
    parsed = getaddresses([sender])
    if len(parsed) != 1 or not is_address(parsed[0][1]) or not sender.isprintable():
        raise ValueError("expected one address, name@domain or Name <name@domain>")
    name, address = parsed[0]
    return Address(name, addr_spec=address)
