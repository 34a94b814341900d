"""Callers of every role, for a listener under test, and how a call of any method ends for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc

from chassis import credentials
from chassis.credentials import CertificateEntry, Document
from chassis.roles import EVERY_ROLE, Role, Rule
from chassis.statuses import reason_of, rpc_status

#: Names of callers that no role lets in, and the reason that they are told.
OUTSIDERS: Final[Mapping[str, str]] = {
    "nobody": "CREDENTIALS_MISSING",
    "stranger": "TOKEN_UNKNOWN",
    "expired": "TOKEN_EXPIRED",
    "muddled": "CREDENTIALS_MALFORMED",
}
#: Beside a caller of each role: one with a token of no use to the method, and the outsiders.
NAMES: Final = (*sorted(EVERY_ROLE), *OUTSIDERS)


@dataclass(slots=True)
class Callers:
    """A file of tokens with one principal for each role, called as the role is."""

    path: Path
    tokens: dict[str, str] = field(default_factory=dict)
    _document: Document = field(default_factory=Document)

    @classmethod
    def written(cls, path: Path, certificates: Mapping[str, Iterable[Role]] | None = None) -> Callers:
        callers = cls(path)
        for role in EVERY_ROLE:
            callers.issue(role, [role])
        callers.issue("expired", EVERY_ROLE, expires=datetime.now(UTC) - timedelta(seconds=1))
        listed = [CertificateEntry(name=name, roles=frozenset(roles)) for name, roles in (certificates or {}).items()]
        callers._write(callers._document.model_copy(update={"certificates": tuple(listed)}))
        return callers

    def issue(self, name: str, roles: Iterable[Role], expires: datetime | None = None) -> str:
        document, self.tokens[name] = credentials.issue(self._document, name, roles, expires)
        self._write(document)
        return self.tokens[name]

    def revoke(self, name: str) -> None:
        kept = tuple(entry for entry in self._document.tokens if entry.name != name)
        self._write(self._document.model_copy(update={"tokens": kept}))

    def metadata(self, name: str) -> tuple[tuple[str, str], ...]:
        """What a caller of that name sends."""
        headers = {
            "nobody": None,
            "stranger": f"Bearer {credentials.new_token()}",
            "muddled": "Basic b3BlbjpzZXNhbWU=",
        }
        header = headers[name] if name in headers else f"Bearer {self.tokens[name]}"
        return (("authorization", header),) if header else ()

    def _write(self, document: Document) -> None:
        self._document = document
        credentials.write(self.path, document)


def refusal(channel: grpc.Channel, method: str, metadata: Any, request: bytes = b"") -> tuple[grpc.StatusCode, str]:
    """How a call of `<package>.<Service>/<Method>` ends; an answer that comes is OK, whatever would come after it."""
    invoke: Any = channel.stream_stream(f"/{method}")
    call = invoke(iter([request]), metadata=metadata, timeout=20)
    try:
        next(call, None)
    except grpc.RpcError as error:
        return error.code(), reason_of(rpc_status(error))
    finally:
        call.cancel()
    return grpc.StatusCode.OK, ""


def expected_refusal(rule: Rule, name: str) -> tuple[grpc.StatusCode, str] | None:
    """How the call of such a caller must be refused; None where it must not be."""
    if rule.anonymous:
        return None
    if name in OUTSIDERS:
        return grpc.StatusCode.UNAUTHENTICATED, OUTSIDERS[name]
    if rule.needs_a_role and name not in rule.roles:
        return grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING"
    return None
