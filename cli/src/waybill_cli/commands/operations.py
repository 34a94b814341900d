"""`waybill submit`, `waybill operations`, `waybill watch`: work, from the hand that gives it to its end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import click
from google.longrunning import operations_pb2
from google.protobuf.message import Message
from rich.text import Text
from waybill.events.v1 import events_pb2

from waybill_cli import contracts, failures
from waybill_cli import output as out
from waybill_cli.client import Gateway, metadata_of
from waybill_cli.commands.edge import SERVICE, each_service, over_a_gateway
from waybill_cli.output import Output

_WAIT = click.option(
    "--timeout", "limit_seconds", type=float, metavar="SECONDS", help="Give up waiting after so long. Default: never."
)


@click.command("submit", epilog=failures.EXIT_CODES)
@click.argument("service")
@click.argument("method")
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
    limit_seconds: float | None,
    gateway: Gateway,
    output: Output,
) -> int:
    """Call METHOD of SERVICE with a request in protobuf JSON ("-": standard input).

    Prints the operation that was accepted, or whatever else the method answers.
    """
    found = contracts.method(service, method)
    text = sys.stdin.read() if request_json == "-" else request_json
    answer = await gateway.call(found, contracts.message_from_json(text, found.input_type))
    if not isinstance(answer, operations_pb2.Operation):
        output.message(answer)
        return 0
    if not wait:
        _show(output, answer, brief=True)
        return 0
    return await _wait(gateway, output, answer.name, limit_seconds)


@click.group("operations")
def operations() -> None:
    """List, get, wait for and cancel operations."""


@operations.command("list")
@SERVICE
@click.option("--filter", "expression", default="", help='As AIP-160: state = "FAILED".')
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Of each service.")
@over_a_gateway
async def list_operations(
    service: tuple[str, ...], expression: str, limit: int, *, gateway: Gateway, output: Output
) -> int:
    """Operations, newest first."""
    pages = await each_service(service, lambda name: gateway.list(name, expression=expression, page_size=limit))
    found = [operation for page in pages.values() for operation in page.operations]
    found.sort(key=lambda each: metadata_of(each).create_time.ToNanoseconds(), reverse=True)
    if output.as_json:
        output.json(out.answers_as_json(found, "operations"))
    else:
        now = datetime.now(UTC)
        output.table(out.OPERATION_HEADINGS, [out.operation_row(each, now) for each in found])
    return pages.exit_code


@operations.command("get", epilog=failures.EXIT_CODES)
@click.argument("name")
@over_a_gateway
async def get(name: str, *, gateway: Gateway, output: Output) -> None:
    """One operation, `operations/SERVICE/ID`, with its attempts."""
    _show(output, await gateway.get(name))


@operations.command("wait", epilog=failures.EXIT_CODES)
@click.argument("name")
@_WAIT
@over_a_gateway
async def wait(name: str, *, limit_seconds: float | None, gateway: Gateway, output: Output) -> int:
    """Wait until an operation is done; the exit code says how it ended."""
    return await _wait(gateway, output, name, limit_seconds)


@operations.command("cancel", epilog=failures.EXIT_CODES)
@click.argument("name")
@over_a_gateway
async def cancel(name: str, *, gateway: Gateway, output: Output) -> None:
    """Cancel an operation; a result that settles first wins."""
    await gateway.cancel(name)
    _show(output, await gateway.get(name), brief=True)


@click.command("watch")
@click.argument("name", required=False)
@SERVICE
@over_a_gateway
async def watch(name: str | None, service: tuple[str, ...], *, gateway: Gateway, output: Output) -> int:
    """Follow what happens to operations as it happens: to all of them, or to one until it is done."""
    if name:
        return await _watch_one(gateway, output, name)
    await asyncio.gather(*(_watch_all(gateway, output, each) for each in service or contracts.services()))
    return 0


async def _watch_all(gateway: Gateway, output: Output, service: str) -> None:
    async for event in _changes(gateway, service):
        _show_event(output, event)


async def _watch_one(gateway: Gateway, output: Output, name: str) -> int:
    """Subscribes before it looks, so that nothing falls between the two."""
    service = name.split("/")[1] if name.count("/") == 2 else ""  # noqa: PLR2004 - operations/SERVICE/ID
    following = asyncio.create_task(_follow(gateway, output, service, name))
    try:
        operation = await gateway.wait(name)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    _show(output, operation)
    return failures.exit_code_of_state(metadata_of(operation).state)


async def _follow(gateway: Gateway, output: Output, service: str, name: str) -> None:
    async for event in _changes(gateway, service):
        if event.subject == name:
            _show_event(output, event)


async def _changes(gateway: Gateway, service: str) -> AsyncIterator[events_pb2.Event]:
    async for answer in gateway.events(service, [f"waybill.{service}.operation.*"]):
        if answer.HasField("event"):
            yield answer.event


def _show_event(output: Output, event: events_pb2.Event) -> None:
    if output.as_json:
        output.json_line(contracts.to_json(event))
        return
    change = events_pb2.OperationChanged()
    event.data.Unpack(change)
    text = Text(f"{event.time.ToDatetime(UTC).astimezone():%H:%M:%S} {change.operation or event.subject}  ")
    text.append(f"{event.type.rpartition('.')[2]:<11}").append(out.state_text(change.state))
    text.append(f"  {change.task}  attempt {change.attempt}/{change.max_attempts}", style="dim")
    if change.HasField("progress"):
        text.append(f"  {change.progress.percent} % {change.progress.message}")
    if change.error_message:
        text.append(f"  {change.error_message}", style="red")
    output.text(text)


async def _wait(gateway: Gateway, output: Output, name: str, limit_seconds: float | None) -> int:
    operation = await gateway.wait(name, None if limit_seconds is None else timedelta(seconds=limit_seconds))
    _show(output, operation)
    return failures.exit_code_of_state(metadata_of(operation).state)


def _show(output: Output, operation: operations_pb2.Operation, *, brief: bool = False) -> None:
    if output.as_json:
        output.message(operation)
    elif brief:
        output.text(Text(f"{operation.name}  ").append(out.state_text(metadata_of(operation).state)))
    else:
        output.text(out.operation_text(operation))
        _show_response(output, operation)


def _show_response(output: Output, operation: operations_pb2.Operation) -> None:
    if operation.HasField("response"):
        response: Message = operation.response
        output.message(response)
