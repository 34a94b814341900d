"""`waybill top`: the whole stack on one screen, moving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click
from rich.live import Live
from waybill.admin.v1 import admin_pb2
from waybill_client import WaybillError
from waybill_client.aio import Client

from waybill_cli import failures, top_view
from waybill_cli.activity import Activity
from waybill_cli.commands.edge import SERVICE, UNKNOWN_SERVICE, over_a_gateway
from waybill_cli.completion import domain_services
from waybill_cli.output import Output
from waybill_cli.top_view import Sample

_FOLLOW_AGAIN_SECONDS = 2.0

Show = Callable[[Sample, Activity], None]


@click.command("top", epilog=failures.EXIT_CODES)
@SERVICE
@click.option("--interval", type=click.FloatRange(0.2, 3_600), default=1.0, show_default=True, help="Seconds.")
@click.option(
    "--count", type=click.IntRange(1), help="End after so many. Default: never on a terminal and with --json."
)
@partial(over_a_gateway, announce=False)
async def top(service: tuple[str, ...], interval: float, count: int | None, *, gateway: Client, output: Output) -> int:
    """Throughput, states, queues, workers and the latest changes, live, until Ctrl-C.

    With --json one line for each sample. Services that are down are shown as such and found again by themselves.
    """
    services = service or domain_services()
    if count is None and not (output.as_json or output.console.is_terminal):
        count = 1
    activity = Activity(time.monotonic())
    following = [asyncio.create_task(_follow(gateway, each, activity)) for each in services]
    try:
        with _shown(output) as show:
            taken = 0
            while True:
                sample = await take(gateway, services)
                show(sample, activity)
                taken += 1
                if taken == count:
                    return failures.EXIT_UNAVAILABLE if sample.problems else 0
                await asyncio.sleep(interval)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def take(gateway: Client, services: Sequence[str]) -> Sample:
    """Ask every service for queues and workers, side by side; one without a route is left out."""
    problems: dict[str, WaybillError] = {}
    queues: list[admin_pb2.Queue] = []
    workers: list[admin_pb2.Worker] = []

    async def ask(service: str) -> None:
        calls: list[Awaitable[Any]] = [
            gateway.call(admin_pb2.ListQueuesRequest(service=service)),
            gateway.call(admin_pb2.ListWorkersRequest(service=service)),
        ]
        try:
            of_queues, of_workers = await asyncio.gather(*calls)
        except WaybillError as error:
            if error.reason != UNKNOWN_SERVICE:
                problems[service] = error
            return
        queues.extend(of_queues.queues)
        workers.extend(of_workers.workers)

    await asyncio.gather(*(ask(service) for service in services))
    return Sample(datetime.now(UTC), queues, workers, problems)


async def _follow(gateway: Client, service: str, activity: Activity) -> None:
    """What a service refuses is shown by the samples; it is followed anew from then on."""
    while True:
        try:
            async with gateway.events(service, [f"waybill.{service}.operation.*"]) as events:
                async for received in events:
                    if change := received.change:
                        activity.note(change, time.monotonic())
        except WaybillError as error:
            if error.reason == UNKNOWN_SERVICE:
                return
        await asyncio.sleep(_FOLLOW_AGAIN_SECONDS)


@contextmanager
def _shown(output: Output) -> Iterator[Show]:
    if output.as_json:
        yield lambda sample, activity: output.json_line(top_view.document(sample, activity, time.monotonic()))
        return
    console = output.console
    if not console.is_terminal:
        yield lambda sample, activity: console.print(top_view.screen(sample, activity, time.monotonic(), 1_000))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show(sample: Sample, activity: Activity) -> None:
            live.update(top_view.screen(sample, activity, time.monotonic(), console.height), refresh=True)

        yield show
