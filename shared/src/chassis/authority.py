"""Who calls, and whether that one may: by bearer token, else by certificate.

What a header led to is remembered, so that a call costs two look-ups. The file of tokens is looked at once a second:
so long a revoked token may still begin a call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from chassis import credentials
from chassis.credentials import Principal, Registry
from chassis.errors import PermissionDenied, Unauthenticated
from chassis.roles import EVERY_ROLE, Role, Rule, named
from chassis.settings import WaybillSettings
from chassis.watched_file import WatchedFile

AUTHORIZATION_KEY: Final = "authorization"
PRINCIPAL_KEY: Final = "waybill-principal"
ROLES_KEY: Final = "waybill-roles"

NOBODY: Final = Principal("", frozenset())
#: Where nothing says who may come in, whoever reaches the listener may do everything.
ANYONE: Final = Principal("", EVERY_ROLE)
_SCHEME: Final = "bearer "


class Authority:
    """Authenticates and authorizes the calls of one listener."""

    def __init__(self, service: str, waybill: WaybillSettings) -> None:
        self._file = WatchedFile(waybill.tokens_file, credentials.parse) if waybill.tokens_file else None
        self._certificates = waybill.client_certificates
        self._services = frozenset({service, *waybill.targets})
        self._registry: Registry | None = None
        self._by_header: dict[str, Principal] = {}
        self._by_names: dict[tuple[bytes, ...], Principal] = {}

    @property
    def asks(self) -> bool:
        """Whether a caller must say who it is."""
        return self._file is not None or self._certificates

    @property
    def problem(self) -> str:
        """Why the tokens in force are not those of the file; empty where they are."""
        return self._file.problem if self._file else ""

    def admit(self, rule: Rule, metadata: Mapping[str, Any], transport: Callable[[], Mapping[str, Any]]) -> Principal:
        """Who calls; raises Unauthenticated or PermissionDenied where that one may not.

        Args:
            rule: of the method.
            metadata: of the call, by lower-case key.
            transport: gives gRPC's `auth_context`; asked only where certificates count.
        """
        if rule.anonymous:
            return NOBODY
        if not self.asks:
            return ANYONE
        caller = spoken_for(self.identify(metadata.get(AUTHORIZATION_KEY), transport), metadata)
        if rule.needs_a_role and rule.roles.isdisjoint(caller.roles):
            raise _role_missing(caller, rule)
        return caller

    def identify(
        self, header: str | bytes | None, transport: Callable[[], Mapping[str, Any]] | None = None
    ) -> Principal:
        """Whose credentials these are; raises Unauthenticated. A token counts before a certificate."""
        self._look()
        if header is not None:
            return self._by_token(header)
        if self._certificates and transport is not None:
            return self._by_certificate(transport())
        raise Unauthenticated(
            "the call says nothing of who makes it; send metadata `authorization: Bearer <token>`",
            reason="CREDENTIALS_MISSING",
        )

    def by_hash(self, sha256: str) -> Principal | None:
        """Whose token has this hash, while it is neither revoked nor over: for a session that began with it."""
        registry = self._look()
        caller = registry.by_hash(sha256) if registry else None
        return caller if caller is not None and time.time() < caller.expires else None

    def by_name(self, name: str) -> Principal | None:
        """Who is listed by that name under `certificates`."""
        registry = self._look()
        return registry.by_name((name,)) if registry else None

    def _look(self) -> Registry | None:
        registry = self._file.value() if self._file else None
        if registry is not self._registry:
            self._by_header, self._by_names, self._registry = {}, {}, registry
        return registry

    def _by_token(self, header: str | bytes) -> Principal:
        known = self._by_header.get(header) if isinstance(header, str) else None
        caller = known or self._read_token(header)
        if time.time() >= caller.expires:
            raise Unauthenticated(f"the token of {caller.name} has expired", reason="TOKEN_EXPIRED")
        return caller

    def _read_token(self, header: str | bytes) -> Principal:
        if not isinstance(header, str) or header[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("expected `authorization: Bearer <token>`", reason="CREDENTIALS_MALFORMED")
        registry = self._registry
        caller = registry.by_token(header[len(_SCHEME) :].strip()) if registry else None
        if caller is None:
            raise Unauthenticated("nobody has this token, or it was revoked", reason="TOKEN_UNKNOWN")
        self._by_header[header] = caller
        return caller

    def _by_certificate(self, transport: Mapping[str, Any]) -> Principal:
        names = (*transport.get("x509_common_name", ()), *transport.get("x509_subject_alternative_name", ()))
        if names not in self._by_names:
            self._by_names[names] = self._read_certificate(tuple(name.decode(errors="replace") for name in names))
        return self._by_names[names]

    def _read_certificate(self, names: tuple[str, ...]) -> Principal:
        if not names or not (names[0].isascii() and names[0].isprintable()):
            raise Unauthenticated(
                "a certificate's common name must be printable ASCII", reason="CERTIFICATE_NAME_UNUSABLE"
            )
        if self._registry is not None:
            return self._registry.by_name(names) or Principal(names[0], frozenset())
        # Nothing says who has which role: each certificate has all, but only services speak for others.
        return Principal(names[0], EVERY_ROLE if names[0] in self._services else EVERY_ROLE - {Role.SERVICE})


def spoken_for(caller: Principal, metadata: Mapping[str, Any]) -> Principal:
    """The caller, or whom a service says that it speaks for: with the roles that it names, else with its own."""
    name = metadata.get(PRINCIPAL_KEY)
    if name is None or Role.SERVICE not in caller.roles:
        return caller
    roles = metadata.get(ROLES_KEY)
    return Principal(str(name), caller.roles if roles is None else _roles_of(str(roles)), caller.expires)


@lru_cache(maxsize=1_024)
def _roles_of(text: str) -> frozenset[Role]:
    return named(text.split(","))


def speaking_for(caller: Principal) -> tuple[tuple[str, str], ...]:
    """What a service sends when it calls for somebody; nothing for somebody without a name."""
    if not caller.name:
        return ()
    return (PRINCIPAL_KEY, caller.name), (ROLES_KEY, ",".join(sorted(caller.roles)))


def _role_missing(caller: Principal, rule: Rule) -> PermissionDenied:
    wanted = ", ".join(sorted(rule.roles))
    return PermissionDenied(
        f"{caller.name or 'this caller'} has none of the roles {wanted}",
        reason="ROLE_MISSING",
        metadata={
            "principal": caller.name,
            "roles": ",".join(sorted(caller.roles)),
            "roles_wanted": ",".join(sorted(rule.roles)),
        },
    )
