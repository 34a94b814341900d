"""What every command that talks to a gateway shares: its options, its event loop, its errors."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc
from chassis import statuses

from waybill_cli import contracts
from waybill_cli.client import Gateway, Tls
from waybill_cli.contracts import JsonError, MethodError
from waybill_cli.failures import EXIT_UNAVAILABLE, EXIT_USAGE, call_text, exit_code_of_call
from waybill_cli.output import Output
from waybill_cli.settings import DEFAULT_GATEWAY

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
# A gateway's reason for a service that its routes do not name.
_UNKNOWN_SERVICE = "UNKNOWN_SERVICE"

# Returns the exit code; None for 0.
Command = Callable[..., Coroutine[Any, Any, int | None]]

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
JSON = click.option("--json", "as_json", is_flag=True, help="JSON, in the fields of the contracts.")
SERVICE = click.option("--service", multiple=True, metavar="NAME", help="Only this service; repeatable.")


def over_a_gateway(command: Command) -> Callable[..., None]:
    """Give a coroutine `gateway` and `output`, and turn its errors into text and exit codes."""

    @_GATEWAY
    @_CA
    @_CERT
    @_KEY
    @JSON
    @functools.wraps(command)
    def run(
        *args: Any,
        address: str,
        ca_file: Path | None,
        cert_file: Path | None,
        key_file: Path | None,
        as_json: bool,
        **kwargs: Any,
    ) -> None:
        tls = _tls(ca_file, cert_file, key_file)

        async def call() -> int | None:
            async with Gateway(address, tls) as gateway:
                return await command(*args, gateway=gateway, output=Output(as_json), **kwargs)

        sys.exit(carry_out(call(), address))

    return run


def _tls(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> Tls | None:
    if ca_file and cert_file and key_file:
        return Tls(ca_file, cert_file, key_file)
    if ca_file or cert_file or key_file:
        raise click.UsageError("TLS needs --ca-file, --cert-file and --key-file")
    return None


class Answers(dict[str, T]):
    """What each service answered; the exit code says whether one is missing."""

    exit_code = 0


async def each_service(services: Iterable[str], ask: Callable[[str], Awaitable[T]]) -> Answers[T]:
    """Ask these services, or all that the gateway knows; one that is down is named on standard error and left out."""
    answers: Answers[T] = Answers()
    named = tuple(services)
    for service in named or contracts.services():
        try:
            answers[service] = await ask(service)
        except grpc.aio.AioRpcError as error:
            if not named and statuses.reason_of(statuses.rpc_status(error)) == _UNKNOWN_SERVICE:
                continue
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            answers.exit_code = EXIT_UNAVAILABLE
            click.echo(f"{service}: {call_text(error)}", err=True)
    return answers


def carry_out(call: Coroutine[Any, Any, int | None], address: str) -> int:
    """Run it; what goes wrong is written to standard error and becomes the exit code."""
    try:
        return asyncio.run(call) or 0
    except grpc.RpcError as error:
        return _failed(f"{address}: {call_text(error)}", exit_code_of_call(error))
    except (MethodError, JsonError) as error:
        return _failed(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        return 130


def _failed(text: str, code: int) -> int:
    click.echo(text, err=True)
    return code
