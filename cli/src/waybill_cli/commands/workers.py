"""`waybill workers`: look at them, set their concurrency, drain them."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime

import click
from waybill.admin.v1 import admin_pb2
from waybill_client import aio

from waybill_cli import failures
from waybill_cli import output as out
from waybill_cli.commands.edge import SERVICE, ListingGroup, each_service, over_a_gateway, owner_of_worker
from waybill_cli.output import Output


@click.group("workers", cls=ListingGroup)
def workers() -> None:
    """Workers with pool and what they run; set-concurrency, drain. Without a command: list."""


@workers.command("list", epilog=failures.EXIT_CODES)
@SERVICE
@over_a_gateway
async def list_workers(service: tuple[str, ...], *, gateway: aio.Client, output: Output) -> int:
    """Every worker with its pool and what it runs."""

    def ask(name: str) -> Awaitable[admin_pb2.ListWorkersResponse]:
        return gateway.call(admin_pb2.ListWorkersRequest(service=name))

    answers = await each_service(service, ask)
    found = [worker for answer in answers.values() for worker in answer.workers]
    if output.as_json:
        output.json(answers.document(out.answers_as_json(found, "workers")))
    else:
        now = datetime.now(UTC)
        output.table(out.WORKER_HEADINGS, [out.worker_row(worker, now) for worker in found])
    return answers.exit_code


@workers.command("set-concurrency", epilog=failures.EXIT_CODES)
@click.argument("worker")
@click.argument("concurrency", type=click.IntRange(1, 1_000))
@over_a_gateway
async def set_concurrency(worker: str, concurrency: int, *, gateway: aio.Client, output: Output) -> None:
    """WORKER runs so many attempts side by side from now on."""
    request = admin_pb2.SetConcurrencyRequest(service=owner_of_worker(worker), worker=worker, concurrency=concurrency)
    changed: admin_pb2.Worker = await gateway.call(request)
    if output.as_json:
        output.message(changed)
    else:
        output.text(f"{changed.name} has a concurrency of {changed.concurrency}")


@workers.command("drain", epilog=failures.EXIT_CODES)
@click.argument("worker")
@over_a_gateway
async def drain(worker: str, *, gateway: aio.Client, output: Output) -> None:
    """WORKER takes nothing more, finishes what runs, and ends."""
    request = admin_pb2.DrainWorkerRequest(service=owner_of_worker(worker), worker=worker)
    drained: admin_pb2.Worker = await gateway.call(request)
    if output.as_json:
        output.message(drained)
    else:
        output.text(f"{drained.name} drains, {len(drained.operations)} running")
