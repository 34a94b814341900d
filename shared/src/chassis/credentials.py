"""The tokens file: who may come in, by what, and with which roles (docs/security.md).

{"tokens": [{"name": "ci", "roles": ["submitter"], "sha256": "<hex>", "expires": "2027-01-01T00:00:00Z"}],
 "certificates": [{"name": "reports", "roles": ["service"]}]}

A token has 256 bits of a secure random source, so that one SHA-256 of it says nothing of it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chassis.roles import Role

PREFIX: Final = "wbt_"
TOKEN_BYTES: Final = 32
FILE_MODE: Final = 0o600
_MAX_FILE_BYTES: Final = 4 << 20

# Names go into gRPC metadata: printable ASCII, no space at either end.
Name = Annotated[str, StringConstraints(pattern=r"^[!-~]([ -~]{0,126}[!-~])?$")]
Roles = Annotated[frozenset[Role], Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    roles: Roles


class TokenEntry(_Entry):
    """One token: of whom, for what, and until when."""

    # Of the whole token, as 64 hex digits.
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    expires: AwareDatetime | None = None

    @property
    def token_id(self) -> str:
        """By which it is told from other tokens of the same name; no secret."""
        return self.sha256[:12]


class CertificateEntry(_Entry):
    """Whose certificates have which roles: by common name, else by a subject alternative name."""


class Document(BaseModel):
    """The file as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: tuple[TokenEntry, ...] = ()
    certificates: tuple[CertificateEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls; `expires` in seconds of Unix time, infinity for never."""

    name: str
    roles: frozenset[Role]
    expires: float = float("inf")


class Registry:
    """Principals by the hash of their token, and by the names of their certificates."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._tokens: Mapping[str, Principal] = {entry.sha256: _principal(entry) for entry in document.tokens}
        self._certificates = {entry.name: Principal(entry.name, entry.roles) for entry in document.certificates}

    def by_token(self, token: str) -> Principal | None:
        """Whose it is, expired or not. The time of the look-up says something of the hash alone."""
        return self.by_hash(hash_of(token))

    def by_hash(self, sha256: str) -> Principal | None:
        """Whose token has this hash, expired or not."""
        return self._tokens.get(sha256)

    def by_name(self, names: Iterable[str]) -> Principal | None:
        """Whose certificate has one of these names, the first of them that is listed."""
        return next((self._certificates[name] for name in names if name in self._certificates), None)


def hash_of(token: str) -> str:
    """What the file has in the token's place."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A token that nobody has had before."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def parse(data: bytes) -> Registry:
    """Raises ValueError, which quotes nothing of the file."""
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"expected at most {_MAX_FILE_BYTES} bytes")
    try:
        document = Document.model_validate_json(data)
    except ValidationError as error:
        found = ("{}: {}".format(".".join(map(str, each["loc"])) or "file", each["msg"]) for each in error.errors())
        raise ValueError("; ".join(found)) from None
    hashes = [entry.sha256 for entry in document.tokens]
    if len(set(hashes)) != len(hashes):
        raise ValueError("tokens: one sha256 stands there twice")
    return Registry(document)


def parse_secret(data: bytes) -> str:
    """The token or password that a file holds, and nothing else; raises ValueError, which does not quote it."""
    try:
        secret = data.decode("ascii").strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret.isprintable() or " " in secret or not secret:
        raise ValueError("expected one token or password, in one line")
    return secret


def read(path: Path) -> Document:
    """The file, an empty document where there is none; raises OSError and ValueError."""
    return parse(path.read_bytes()).document if path.exists() else Document()


def write(path: Path, document: Document) -> None:
    """Whoever reads sees the old file or the new one; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, FILE_MODE)
            file.write(document.model_dump_json(indent=2, exclude_none=True) + "\n")
            file.flush()
            os.fsync(descriptor)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def without(document: Document, name_or_id: str) -> Document:
    """The document without the tokens of a name, or without the one of an id."""
    kept = tuple(entry for entry in document.tokens if name_or_id not in {entry.name, entry.token_id})
    return document.model_copy(update={"tokens": kept})


def _principal(entry: TokenEntry) -> Principal:
    return Principal(entry.name, entry.roles, entry.expires.timestamp() if entry.expires else float("inf"))


def issue(
    document: Document, name: str, roles: Iterable[Role], expires: datetime | None = None
) -> tuple[Document, str]:
    """The document with one more token, and the token, which nothing else will ever say; raises ValueError."""
    token = new_token()
    try:
        entry = TokenEntry(name=name, roles=frozenset(roles), sha256=hash_of(token), expires=expires)
    except ValidationError as error:
        raise ValueError("; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())) from None
    return document.model_copy(update={"tokens": (*document.tokens, entry)}), token
