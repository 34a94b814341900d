"""`waybill submit`, `waybill operations`: work, from the hand that gives it to its end."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import click
from google.longrunning import operations_pb2
from rich.text import Text
from waybill.admin.v1 import admin_pb2
from waybill_client import contracts
from waybill_client.aio import Client, Operation

from waybill_cli import completion, failures
from waybill_cli import output as out
from waybill_cli.commands.edge import SERVICE, Answers, each_service, over_a_gateway, service_of
from waybill_cli.durations import DURATION
from waybill_cli.output import Output

CANCEL_LIMIT = 10_000
_CANCEL_TIMEOUT = timedelta(seconds=60)
_WAIT = click.option(
    "--timeout",
    "limit",
    type=DURATION,
    metavar="DURATION",
    help="Give up waiting after so long, as 90s or 15m. Default: never.",
)
_FILTER = click.option("--filter", "expression", default="", help='As AIP-160: state = "FAILED".')
_STATE = click.option(
    "--state", type=completion.STATE, shell_complete=completion.complete_state, help="Short for a filter by state."
)


@click.command("submit", epilog=failures.EXIT_CODES)
@click.argument("service", shell_complete=completion.complete_callee)
@click.argument("method", shell_complete=completion.complete_method)
@click.argument("request_json", metavar="[JSON|-]", default="{}")
@click.option("--wait", is_flag=True, help="Wait until the operation is done.")
@_WAIT
@over_a_gateway
async def submit(
    service: str,
    method: str,
    request_json: str,
    *,
    wait: bool,
    limit: timedelta | None,
    gateway: Client,
    output: Output,
) -> int:
    """Call METHOD of SERVICE with a request in protobuf JSON ("-": standard input).

    Prints the operation that was accepted, or whatever else the method answers. A request without a request_id is
    given one, so that nothing is accepted twice when a call is repeated.
    """
    found = contracts.method(service, method)
    text = sys.stdin.read() if request_json == "-" else request_json
    request = contracts.message_from_json(text, found.input_type)
    answer = await gateway.call(found, request)
    if not isinstance(answer, operations_pb2.Operation):
        output.message(answer)
        return 0
    operation = Operation(gateway, answer)
    if wait:
        return await _wait(output, operation, limit)
    show(output, operation, brief=True)
    return 0


@click.group("operations")
def operations() -> None:
    """List, get, wait for and cancel operations, and count those that ended."""


@operations.command("list", epilog=failures.EXIT_CODES)
@SERVICE
@_FILTER
@_STATE
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Of each service.")
@over_a_gateway
async def list_operations(
    service: tuple[str, ...], expression: str, state: str | None, limit: int, *, gateway: Client, output: Output
) -> int:
    """Operations, newest first."""
    wanted = _with_state(expression, state)
    pages = await each_service(service, lambda name: _first(gateway, name, wanted, limit))
    found = [operation for page in pages.values() for operation in page]
    found.sort(key=lambda each: each.metadata.create_time.ToNanoseconds(), reverse=True)
    if output.as_json:
        output.json(pages.document(out.answers_as_json([each.message for each in found], "operations")))
    else:
        now = datetime.now(UTC)
        output.table(out.OPERATION_HEADINGS, [out.operation_row(each, now) for each in found])
    return pages.exit_code


@operations.command("get", epilog=failures.EXIT_CODES)
@click.argument("name")
@over_a_gateway
async def get(name: str, *, gateway: Client, output: Output) -> None:
    """One operation, `operations/SERVICE/ID`, with its attempts."""
    show(output, await gateway.operations.get(name))


@operations.command("wait", epilog=failures.EXIT_CODES)
@click.argument("name")
@_WAIT
@over_a_gateway
async def wait(name: str, *, limit: timedelta | None, gateway: Client, output: Output) -> int:
    """Wait until an operation is done; the exit code says how it ended. Outlives gateways that restart."""
    return await _wait(output, gateway.operation(name), limit)


@operations.command("cancel", epilog=failures.EXIT_CODES)
@click.argument("name", required=False)
@SERVICE
@_FILTER
@_STATE
@click.option(
    "--limit", type=click.IntRange(1, CANCEL_LIMIT), default=1_000, show_default=True, help="Of many, oldest first."
)
@over_a_gateway
async def cancel(
    name: str | None,
    service: tuple[str, ...],
    expression: str,
    state: str | None,
    limit: int,
    *,
    gateway: Client,
    output: Output,
) -> int:
    """Cancel one operation, or all that match a filter; a result that settles first wins."""
    wanted = _with_state(expression, state)
    if bool(name) == bool(wanted):
        raise click.UsageError("name one operation, or choose many by --filter or --state")
    if name:
        service_of(name)
        show(output, await gateway.operation(name).cancel(), brief=True)
        return 0

    def ask(each: str) -> Awaitable[admin_pb2.CancelOperationsResponse]:
        request = admin_pb2.CancelOperationsRequest(service=each, filter=wanted, limit=limit)
        return gateway.call(request, timeout=_CANCEL_TIMEOUT)

    answers = await each_service(service, ask)
    _show_cancelled(output, answers)
    return answers.exit_code


@operations.command("stats", epilog=failures.EXIT_CODES)
@SERVICE
@_FILTER
@click.option("--since", type=DURATION, default="1h", show_default=True, metavar="DURATION", help="How far back.")
@click.option("--step", type=DURATION, default="1m", show_default=True, metavar="DURATION", help="Whole minutes.")
@over_a_gateway
async def stats(
    service: tuple[str, ...], expression: str, since: timedelta, step: timedelta, *, gateway: Client, output: Output
) -> int:
    """How many ended, how, and how long they took, by step, task and state."""
    now = datetime.now(UTC)

    def ask(name: str) -> Awaitable[admin_pb2.GetOperationStatsResponse]:
        request = admin_pb2.GetOperationStatsRequest(service=name, filter=expression)
        request.start_time.FromDatetime(now - since)
        request.end_time.FromDatetime(now)
        request.step.FromTimedelta(step)
        return gateway.call(request)

    answers = await each_service(service, ask)
    found = [each for answer in answers.values() for each in answer.stats]
    if output.as_json:
        output.json(answers.document(out.answers_as_json(found, "stats")))
    else:
        output.table(out.STATS_HEADINGS, map(out.stats_row, found))
    return answers.exit_code


async def _first(gateway: Client, service: str, expression: str, limit: int) -> list[Operation]:
    """As many as are wanted: a page may hold fewer than there are."""
    found: list[Operation] = []
    async with gateway.operations.list(service, expression, page_size=limit) as listed:
        async for operation in listed:
            found.append(operation)
            if len(found) == limit:
                break
    return found


def _with_state(expression: str, state: str | None) -> str:
    return " AND ".join(part for part in (f"state = {state}" if state else "", expression) if part)


def _show_cancelled(output: Output, answers: Answers[admin_pb2.CancelOperationsResponse]) -> None:
    count = sum(answer.cancelled for answer in answers.values())
    more = any(answer.more for answer in answers.values())
    if output.as_json:
        output.json(answers.document({"cancelled": count, "more": more}))
    else:
        output.text(f"{count} cancelled{', more match' if more else ''}")


async def _wait(output: Output, operation: Operation, limit: timedelta | None) -> int:
    await operation.wait(limit)
    show(output, operation)
    return failures.exit_code_of_state(operation.state)


def show(output: Output, operation: Operation, *, brief: bool = False) -> None:
    """One operation: its line, or all of it with its response."""
    if output.as_json:
        output.message(operation.message)
    elif brief:
        output.text(Text(f"{operation.name}  ").append(out.state_text(operation.state)))
    else:
        output.text(out.operation_text(operation))
        if operation.message.HasField("response"):
            output.message(operation.message.response)
