"""`waybill watch`: what happens to operations, as it happens."""

from __future__ import annotations

import asyncio

import click
from waybill_client import NotFound
from waybill_client.aio import Client

from waybill_cli import failures
from waybill_cli.commands.edge import SERVICE, UNKNOWN_SERVICE, over_a_gateway, service_of
from waybill_cli.commands.operations import show
from waybill_cli.completion import domain_services
from waybill_cli.output import Output
from waybill_cli.watch_views import BarWatch, LineWatch, WatchView


@click.command("watch", epilog=failures.EXIT_CODES)
@click.argument("name", required=False)
@SERVICE
@click.option("--lines", is_flag=True, help="Lines on a terminal too.")
@over_a_gateway
async def watch(name: str | None, service: tuple[str, ...], *, lines: bool, gateway: Client, output: Output) -> int:
    """Follow operations, all of them or NAME until it is done: bars on a terminal, lines elsewhere.

    A gateway that restarts costs no change and repeats none; one that stays away for a minute ends it. With --json
    each change is a line of its own; of NAME the last line is the operation as it ended.
    """
    bars = output.console.is_terminal and not (output.as_json or lines)
    view: WatchView = BarWatch(output.console) if bars else LineWatch(output)
    if name:
        service_of(name)
        return await _watch_one(gateway, output, view, name)
    named = service or domain_services()
    with view.live():
        await asyncio.gather(*(_watch_all(gateway, view, each, named=bool(service)) for each in named))
    return 0


async def _watch_all(gateway: Client, view: WatchView, service: str, *, named: bool) -> None:
    try:
        async with gateway.events(service, [f"waybill.{service}.operation.*"]) as events:
            async for received in events:
                if change := received.change:
                    view.change(change)
    except NotFound as error:
        if named or error.reason != UNKNOWN_SERVICE:
            raise


async def _watch_one(gateway: Client, output: Output, view: WatchView, name: str) -> int:
    operation = gateway.operation(name)
    with view.live():
        async with operation.watch() as changes:
            async for change in changes:
                view.change(change)
    await operation.wait()
    if output.as_json:
        output.message_line(operation.message)
    else:
        show(output, operation)
    return failures.exit_code_of_state(operation.state)
