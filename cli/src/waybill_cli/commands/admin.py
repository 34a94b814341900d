"""`waybill queues`, `waybill workers`, `waybill dead-letters`: what an operator looks at and steers."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime

import click
from google.protobuf.any_pb2 import Any as AnyMessage
from waybill.admin.v1 import admin_pb2

from waybill_cli import contracts, failures
from waybill_cli import output as out
from waybill_cli.client import CALL_TIMEOUT, Gateway
from waybill_cli.commands.edge import SERVICE, each_service, over_a_gateway
from waybill_cli.output import Output

_TIMEOUT = CALL_TIMEOUT.total_seconds()


@click.command("queues")
@SERVICE
@over_a_gateway
async def queues(service: tuple[str, ...], *, gateway: Gateway, output: Output) -> int:
    """Every queue with its depth and the age of its oldest operation."""

    def ask(name: str) -> Awaitable[admin_pb2.ListQueuesResponse]:
        return gateway.queues.ListQueues(admin_pb2.ListQueuesRequest(service=name), timeout=_TIMEOUT)

    answers = await each_service(service, ask)
    found = [queue for answer in answers.values() for queue in answer.queues]
    if output.as_json:
        output.json(out.answers_as_json(found, "queues"))
    else:
        output.table(out.QUEUE_HEADINGS, map(out.queue_row, found))
    return answers.exit_code


@click.command("workers")
@SERVICE
@over_a_gateway
async def workers(service: tuple[str, ...], *, gateway: Gateway, output: Output) -> int:
    """Every worker with its pool and what it runs."""

    def ask(name: str) -> Awaitable[admin_pb2.ListWorkersResponse]:
        return gateway.workers.ListWorkers(admin_pb2.ListWorkersRequest(service=name), timeout=_TIMEOUT)

    answers = await each_service(service, ask)
    found = [worker for answer in answers.values() for worker in answer.workers]
    if output.as_json:
        output.json(out.answers_as_json(found, "workers"))
    else:
        now = datetime.now(UTC)
        output.table(out.WORKER_HEADINGS, [out.worker_row(worker, now) for worker in found])
    return answers.exit_code


@click.group("dead-letters")
def dead_letters() -> None:
    """List, get, replay and discard FAILED operations."""


@dead_letters.command("list")
@SERVICE
@click.option("--group", default="", help="Only those that failed alike.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Of each service.")
@over_a_gateway
async def list_dead_letters(
    service: tuple[str, ...], group: str, limit: int, *, gateway: Gateway, output: Output
) -> int:
    """Dead letters, newest first."""

    def ask(name: str) -> Awaitable[admin_pb2.ListDeadLettersResponse]:
        request = admin_pb2.ListDeadLettersRequest(service=name, group=group, page_size=limit)
        return gateway.dead_letters.ListDeadLetters(request, timeout=_TIMEOUT)

    answers = await each_service(service, ask)
    found = [letter for answer in answers.values() for letter in answer.dead_letters]
    if output.as_json:
        output.json(out.answers_as_json(found, "dead_letters"))
    else:
        now = datetime.now(UTC)
        output.table(out.DEAD_LETTER_HEADINGS, [out.dead_letter_row(letter, now) for letter in found])
    return answers.exit_code


@dead_letters.command("get", epilog=failures.EXIT_CODES)
@click.argument("operation")
@over_a_gateway
async def get(operation: str, *, gateway: Gateway, output: Output) -> None:
    """One dead letter with its payload and its attempts."""
    request = admin_pb2.GetDeadLetterRequest(service=_service_of(operation), operation=operation)
    output.message(await gateway.dead_letters.GetDeadLetter(request, timeout=_TIMEOUT))


@dead_letters.command("replay", epilog=failures.EXIT_CODES)
@click.argument("operation")
@click.option("--edited", metavar="JSON", help="The payload to run instead, with its @type.")
@click.option("--request-id", default="", help="Idempotency key; without one each call replays anew.")
@over_a_gateway
async def replay(operation: str, edited: str | None, request_id: str, *, gateway: Gateway, output: Output) -> None:
    """Accept a new operation that names the one it replays."""
    request = admin_pb2.ReplayDeadLetterRequest(
        service=_service_of(operation), operation=operation, request_id=request_id
    )
    if edited is not None:
        contracts.load()
        payload = contracts.message_from_json(edited, AnyMessage.DESCRIPTOR)
        request.edited_request.MergeFromString(payload.SerializeToString())
    accepted = await gateway.dead_letters.ReplayDeadLetter(request, timeout=_TIMEOUT)
    if output.as_json:
        output.message(accepted)
    else:
        output.text(accepted.name)


@dead_letters.command("discard", epilog=failures.EXIT_CODES)
@click.argument("operation")
@over_a_gateway
async def discard(operation: str, *, gateway: Gateway, output: Output) -> None:
    """Take it off the dead letters; the operation stays FAILED."""
    request = admin_pb2.DiscardDeadLetterRequest(service=_service_of(operation), operation=operation)
    await gateway.dead_letters.DiscardDeadLetter(request, timeout=_TIMEOUT)
    if output.as_json:
        output.json({})
    else:
        output.text(f"{operation} is discarded")


def _service_of(operation: str) -> str:
    parts = operation.split("/")
    if len(parts) != 3 or parts[0] != "operations":  # noqa: PLR2004 - operations/SERVICE/ID
        raise click.UsageError(f"{operation}: expected operations/SERVICE/ID")
    return parts[1]
