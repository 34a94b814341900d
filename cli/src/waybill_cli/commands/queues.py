"""`waybill queues`: look at them, pause, resume, purge."""

from __future__ import annotations

from collections.abc import Awaitable

import click
from waybill.admin.v1 import admin_pb2
from waybill_client import aio

from waybill_cli import failures
from waybill_cli import output as out
from waybill_cli.commands.edge import SERVICE, ListingGroup, each_service, over_a_gateway, owner_of_queue
from waybill_cli.output import Output


@click.group("queues", cls=ListingGroup)
def queues() -> None:
    """Queues with depth and age; pause, resume, purge. Without a command: list."""


@queues.command("list", epilog=failures.EXIT_CODES)
@SERVICE
@over_a_gateway
async def list_queues(service: tuple[str, ...], *, gateway: aio.Client, output: Output) -> int:
    """Every queue with its depth and the age of its oldest operation."""

    def ask(name: str) -> Awaitable[admin_pb2.ListQueuesResponse]:
        return gateway.call(admin_pb2.ListQueuesRequest(service=name))

    answers = await each_service(service, ask)
    found = [queue for answer in answers.values() for queue in answer.queues]
    if output.as_json:
        output.json(answers.document(out.answers_as_json(found, "queues")))
    else:
        output.table(out.QUEUE_HEADINGS, map(out.queue_row, found))
    return answers.exit_code


@queues.command("pause", epilog=failures.EXIT_CODES)
@click.argument("queue")
@over_a_gateway
async def pause(queue: str, *, gateway: aio.Client, output: Output) -> None:
    """Workers take nothing more from QUEUE; what runs goes on, what is accepted waits."""
    await _steer(gateway, output, admin_pb2.PauseQueueRequest(service=owner_of_queue(queue), queue=queue))


@queues.command("resume", epilog=failures.EXIT_CODES)
@click.argument("queue")
@over_a_gateway
async def resume(queue: str, *, gateway: aio.Client, output: Output) -> None:
    """Workers take from QUEUE again."""
    await _steer(gateway, output, admin_pb2.ResumeQueueRequest(service=owner_of_queue(queue), queue=queue))


@queues.command("purge", epilog=failures.EXIT_CODES)
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@over_a_gateway
async def purge(queue: str, *, yes: bool, gateway: aio.Client, output: Output) -> None:
    """Cancel every operation that waits in QUEUE; what runs is left alone."""
    service = owner_of_queue(queue)
    if not yes:
        click.confirm(f"Cancel everything that waits in {queue}?", abort=True, err=True)
    answer: admin_pb2.PurgeQueueResponse = await gateway.call(admin_pb2.PurgeQueueRequest(service=service, queue=queue))
    if output.as_json:
        output.json({"cancelled": answer.cancelled})
    else:
        output.text(f"{answer.cancelled} operations of {queue} are CANCELLED")


async def _steer(
    gateway: aio.Client, output: Output, request: admin_pb2.PauseQueueRequest | admin_pb2.ResumeQueueRequest
) -> None:
    queue: admin_pb2.Queue = await gateway.call(request)
    if output.as_json:
        output.message(queue)
    else:
        output.text(f"{queue.name} is {'paused' if queue.paused else 'running'}, {queue.depth} waiting")
