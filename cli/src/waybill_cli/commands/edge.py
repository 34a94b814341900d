"""What every command that talks to a gateway shares: its options, its event loop, its errors."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from waybill_client import JsonError, MethodError, Tls, WaybillError, aio
from waybill_client.bearer import crosses_a_network

from waybill_cli.client import Access
from waybill_cli.completion import complete_service, domain_services
from waybill_cli.failures import (
    EXIT_INTERRUPTED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    call_json,
    call_text,
    exit_code_of_call,
)
from waybill_cli.output import Output
from waybill_cli.settings import DEFAULT_GATEWAY, environment, is_insecure, token

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
# A gateway's reason for a service that its routes do not name.
UNKNOWN_SERVICE = "UNKNOWN_SERVICE"

# Returns the exit code; None for 0.
Command = Callable[..., Coroutine[Any, Any, int | None]]
# Wrong usage, as click says it, for an address that must not be reached so.
AccessTo = Callable[[str], Access]

_GATEWAY = click.option(
    "--gateway",
    "address",
    envvar="WAYBILL_GATEWAY",
    default=DEFAULT_GATEWAY,
    show_default=True,
    metavar="HOST:PORT",
    help="Any gateway; it reaches the other services. Or WAYBILL_GATEWAY.",
)


def _tls_option(name: str, what: str) -> Callable[[F], F]:
    return click.option(
        f"--{name}-file",
        envvar=f"WAYBILL_TLS_{name.upper()}_FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"For TLS: {what}. Or WAYBILL_TLS_{name.upper()}_FILE.",
    )


_CA = _tls_option("ca", "the authority to trust")
_CERT = _tls_option("cert", "the certificate to show")
_KEY = _tls_option("key", "its key")
_TOKEN_FILE = click.option(
    "--token-file",
    envvar="WAYBILL_TOKEN_FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file with your token. Or WAYBILL_TOKEN_FILE; or the token itself in WAYBILL_TOKEN.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="JSON, in the fields of the contracts.")
SERVICE = click.option(
    "--service", multiple=True, metavar="NAME", help="Only this service; repeatable.", shell_complete=complete_service
)


def with_access(function: F) -> F:
    """Give a command `access_to`: what an address is reached by, of the options and the environment."""

    @_CA
    @_CERT
    @_KEY
    @_TOKEN_FILE
    @functools.wraps(function)
    def run(
        *args: Any,
        ca_file: Path | None,
        cert_file: Path | None,
        key_file: Path | None,
        token_file: Path | None,
        **kwargs: Any,
    ) -> Any:
        def access_to(address: str) -> Access:
            return _access(_tls(ca_file, cert_file, key_file), token_file, address)

        return function(*args, access_to=access_to, **kwargs)

    return cast("F", run)


def over_a_gateway(command: Command, *, announce: bool = True) -> Callable[..., None]:
    """Give a coroutine `gateway` and `output`, and turn its errors into text and exit codes.

    `announce`: say on standard error when the gateway is away and is waited for.
    """

    @_GATEWAY
    @with_access
    @JSON
    @functools.wraps(command)
    def run(*args: Any, address: str, access_to: AccessTo, as_json: bool, **kwargs: Any) -> None:
        access, output = access_to(address), Output(as_json)

        def away(error: WaybillError) -> None:
            click.echo(f"{address}: {call_text(error)}; waiting for it", err=True)

        async def call() -> int | None:
            async with access.connect(address, on_outage=away if announce else None) as gateway:
                return await command(*args, gateway=gateway, output=output, **kwargs)

        sys.exit(carry_out(call(), address, output))

    return run


def _tls(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> Tls | None:
    if cert_file is None and key_file is None:
        return Tls(ca_file) if ca_file else None
    if ca_file and cert_file and key_file:
        return Tls(ca_file, cert_file, key_file)
    raise click.UsageError("TLS needs --ca-file, or all of --ca-file, --cert-file and --key-file")


def _access(tls: Tls | None, token_file: Path | None, address: str) -> Access:
    given = environment()
    if token_file is not None:
        given["WAYBILL_TOKEN_FILE"] = str(token_file)
    try:
        access = Access(tls, token(given), is_insecure(given))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--token-file: {error}") from None
    if access.token and tls is None and not access.plaintext and crosses_a_network(address):
        raise click.UsageError(
            f"a token is not sent to {address} without TLS: give --ca-file, or set WAYBILL_INSECURE=1"
        )
    return access


def access_of(gateway: aio.Client) -> Access:
    """By which another listener of the same stack is reached."""
    return Access(gateway.settings.tls, gateway.settings.token, gateway.settings.plaintext)


class Answers(dict[str, T]):
    """What each service answered, and why one did not."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: dict[str, WaybillError] = {}

    @property
    def exit_code(self) -> int:
        return EXIT_UNAVAILABLE if self.problems else 0

    def document(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The JSON of a command that asked several services: `unavailable` names those that did not answer."""
        missing = {service: call_json(error) for service, error in self.problems.items()}
        return {**facts, "unavailable": missing} if missing else facts


async def each_service(services: Iterable[str], ask: Callable[[str], Awaitable[T]]) -> Answers[T]:
    """Ask these services, or all that the gateway knows; one that is down is named on standard error and left out."""
    named = tuple(services)
    asked = named or domain_services()
    results = await asyncio.gather(*(ask(service) for service in asked), return_exceptions=True)
    answers: Answers[T] = Answers()
    for service, result in zip(asked, results, strict=True):
        if not isinstance(result, BaseException):
            answers[service] = result
        elif not isinstance(result, WaybillError) or exit_code_of_call(result) != EXIT_UNAVAILABLE:
            if isinstance(result, WaybillError) and result.reason == UNKNOWN_SERVICE and not named:
                continue
            raise result
        else:
            answers.problems[service] = result
            click.echo(f"{service}: {call_text(result)}", err=True)
    return answers


def carry_out(call: Coroutine[Any, Any, int | None], address: str, output: Output) -> int:
    """Run it; what goes wrong is written to standard error, with --json to standard output, and is the exit code."""
    try:
        return asyncio.run(call) or 0
    except WaybillError as error:
        if output.as_json:
            output.json_line({"error": call_json(error)})
        return _failed(f"{address}: {call_text(error)}", exit_code_of_call(error))
    except (MethodError, JsonError) as error:
        return _failed(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _failed(text: str, code: int) -> int:
    click.echo(text, err=True)
    return code


def service_of(operation: str) -> str:
    """`reports` of `operations/reports/0190...`; wrong usage otherwise."""
    parts = operation.split("/")
    if len(parts) != 3 or parts[0] != "operations" or not all(parts):  # noqa: PLR2004 - operations/SERVICE/ID
        raise click.UsageError(f"{operation}: expected operations/SERVICE/ID")
    return parts[1]


def owner_of_queue(queue: str) -> str:
    """`notify` of `notify.mail`; wrong usage otherwise."""
    service, dot, rest = queue.partition(".")
    if not (service and dot and rest):
        raise click.UsageError(f"{queue}: expected SERVICE.QUEUE")
    return service


def owner_of_worker(worker: str) -> str:
    """`notify` of `notify@host:7`; wrong usage otherwise."""
    service, at, rest = worker.partition("@")
    if not (service and at and rest):
        raise click.UsageError(f"{worker}: expected SERVICE@HOST:PID")
    return service


class ListingGroup(click.Group):
    """A group whose `list` needs no naming: `waybill queues` is `waybill queues list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options that are not the group's own belong to `list`."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        unnamed = not args or (args[0].startswith("-") and args[0] not in own)
        if unnamed and not ctx.resilient_parsing:  # completion is of this group's own words
            args = ["list", *args]
        return super().parse_args(ctx, args)
