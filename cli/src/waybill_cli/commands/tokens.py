"""`waybill tokens`: the file that says who may come in, on this machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from chassis import credentials
from chassis.credentials import Document, TokenEntry
from chassis.roles import Role

from waybill_cli.commands.edge import JSON, ListingGroup
from waybill_cli.durations import DURATION
from waybill_cli.output import Output

_HEADINGS: Final = ("id", "name", "roles", "expires")
_FILE = click.option(
    "--file",
    "path",
    envvar="WAYBILL_TOKENS_FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of tokens. Or WAYBILL_TOKENS_FILE.",
)


@click.group("tokens", cls=ListingGroup)
def tokens() -> None:
    """Tokens that gateways and the dashboard take: create, list, revoke. They read the file within a second."""


@tokens.command("create")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice([role.value for role in Role]),
    help="Repeatable.",
)
@click.option("--expires-in", type=DURATION, help="30d, 12h. Default: never.")
@_FILE
def create(name: str, *, roles: tuple[Role, ...], expires_in: timedelta | None, path: Path) -> None:
    """Make a token for NAME and print it, this once: the file keeps a hash of it."""
    expires = datetime.now(UTC).replace(microsecond=0) + expires_in if expires_in else None
    try:
        document, token = credentials.issue(_read(path), name, map(Role, roles), expires)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _write(path, document)
    click.echo(token)


@tokens.command("list")
@_FILE
@JSON
def list_tokens(*, path: Path, as_json: bool) -> None:
    """Whose tokens there are, with which roles and until when."""
    found, output = _read(path).tokens, Output(as_json)
    if as_json:
        output.json({"tokens": [_as_json(entry) for entry in found]})
    else:
        output.table(_HEADINGS, map(_row, found))


@tokens.command("revoke")
@click.argument("name_or_id")
@_FILE
def revoke(name_or_id: str, *, path: Path) -> None:
    """Take the tokens of a name, or the one of an id, out of the file: no call may begin with them any more."""
    document = _read(path)
    kept = credentials.without(document, name_or_id)
    count = len(document.tokens) - len(kept.tokens)
    if not count:
        raise click.UsageError(f"{path} has no token of the name or id {name_or_id}")
    _write(path, kept)
    click.echo(f"{count} revoked")


def _read(path: Path) -> Document:
    try:
        return credentials.read(path)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path}: {error}") from None


def _write(path: Path, document: Document) -> None:
    try:
        credentials.write(path, document)
    except OSError as error:
        raise click.ClickException(f"{path}: {error}") from None


def _row(entry: TokenEntry) -> tuple[str, ...]:
    return entry.token_id, entry.name, ", ".join(sorted(entry.roles)), _expiry(entry) or "never"


def _as_json(entry: TokenEntry) -> dict[str, object]:
    return {"id": entry.token_id, "name": entry.name, "roles": sorted(entry.roles), "expires": _expiry(entry)}


def _expiry(entry: TokenEntry) -> str:
    return entry.expires.isoformat(timespec="seconds") if entry.expires else ""
