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

from waybill_cli.client import Gateway
from waybill_cli.contracts import JsonError, MethodError
from waybill_cli.failures import EXIT_UNAVAILABLE, EXIT_USAGE, call_text, exit_code_of_call
from waybill_cli.output import Output
from waybill_cli.plan import SERVICES
from waybill_cli.settings import DEFAULT_GATEWAY

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
_CA_FILE = click.option(
    "--ca-file",
    envvar="WAYBILL_TLS_CA_FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Speak TLS and trust this CA. Or WAYBILL_TLS_CA_FILE.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="JSON, in the fields of the contracts.")
SERVICE = click.option("--service", multiple=True, metavar="NAME", help="Only this service; repeatable.")


def over_a_gateway(command: Command) -> Callable[..., None]:
    """Give a coroutine `gateway` and `output`, and turn its errors into text and exit codes."""

    @_GATEWAY
    @_CA_FILE
    @JSON
    @functools.wraps(command)
    def run(*args: Any, address: str, ca_file: Path | None, as_json: bool, **kwargs: Any) -> None:
        async def call() -> int | None:
            async with Gateway(address, ca_file) as gateway:
                return await command(*args, gateway=gateway, output=Output(as_json), **kwargs)

        sys.exit(carry_out(call(), address))

    return run


class Answers(dict[str, T]):
    """What each service answered; the exit code says whether one is missing."""

    exit_code = 0


async def each_service(services: Iterable[str], ask: Callable[[str], Awaitable[T]]) -> Answers[T]:
    """Ask these services, or all that the gateway knows; one that is down is named on standard error and left out."""
    answers: Answers[T] = Answers()
    named = tuple(services)
    for service in named or tuple(SERVICES):
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
