"""`waybill dead-letters`: look at FAILED operations, replay and discard them, one by one or all that match."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import click
from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from waybill.admin.v1 import admin_pb2
from waybill_client import aio, contracts

from waybill_cli import edits, failures
from waybill_cli import output as out
from waybill_cli.commands.edge import SERVICE, F, ListingGroup, each_service, over_a_gateway, service_of
from waybill_cli.output import Output

LIMIT = 1_000
_ANSWER_MARGIN = timedelta(seconds=30)

_GROUP = click.option("--group", default="", help="Only those that failed alike, as `list` groups them.")
_FILTER = click.option("--filter", "expression", default="", help='As AIP-160: task = "notify.deliver".')
_LIMIT = click.option("--limit", type=click.IntRange(1, LIMIT), default=LIMIT, show_default=True, help="Oldest first.")
_ALL = click.option("--all", "every", is_flag=True, help="All of them.")


def _matching(command: F) -> F:
    """The options by which many are chosen."""
    for option in (_LIMIT, _ALL, SERVICE, _GROUP, _FILTER):
        command = option(command)
    return command


@click.group("dead-letters", cls=ListingGroup)
def dead_letters() -> None:
    """List, get, replay and discard FAILED operations. Without a command: list."""


@dead_letters.command("list", epilog=failures.EXIT_CODES)
@SERVICE
@_GROUP
@_FILTER
@click.option("--limit", type=click.IntRange(1, LIMIT), default=20, show_default=True, help="Of each service.")
@over_a_gateway
async def list_dead_letters(
    service: tuple[str, ...], group: str, expression: str, limit: int, *, gateway: aio.Client, output: Output
) -> int:
    """Dead letters, newest first, and their groups."""

    def ask(name: str) -> Awaitable[admin_pb2.ListDeadLettersResponse]:
        request = admin_pb2.ListDeadLettersRequest(service=name, group=group, page_size=limit, filter=expression)
        return gateway.call(request)

    answers = await each_service(service, ask)
    found = [letter for answer in answers.values() for letter in answer.dead_letters]
    groups = [each for answer in answers.values() for each in answer.groups]
    if output.as_json:
        facts = {**out.answers_as_json(found, "dead_letters"), **out.answers_as_json(groups, "groups")}
        output.json(answers.document(facts))
    else:
        now = datetime.now(UTC)
        output.table(out.DEAD_LETTER_HEADINGS, [out.dead_letter_row(letter, now) for letter in found])
        for each in groups:
            output.text(f"{each.count:>6}  {each.group}")
    return answers.exit_code


@dead_letters.command("get", epilog=failures.EXIT_CODES)
@click.argument("operation")
@over_a_gateway
async def get(operation: str, *, gateway: aio.Client, output: Output) -> None:
    """One dead letter with its payload and its attempts."""
    output.message(await _get(gateway, operation))


@dead_letters.command("replay", epilog=failures.EXIT_CODES)
@click.argument("operation", required=False)
@_matching
@click.option("--edited", metavar="JSON", help="Of one: the payload to run instead, with its @type.")
@click.option("--set", "assignments", multiple=True, metavar="FIELD=VALUE", help="Change the payload; repeatable.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Of many: replays a second.")
@click.option("--request-id", default="", help="Of one: idempotency key; without one each call replays anew.")
@over_a_gateway
async def replay(  # noqa: PLR0913 - one parameter for each option
    operation: str | None,
    service: tuple[str, ...],
    group: str,
    expression: str,
    limit: int,
    *,
    every: bool,
    edited: str | None,
    assignments: tuple[str, ...],
    rate: float | None,
    request_id: str,
    gateway: aio.Client,
    output: Output,
) -> int:
    """Accept a new operation for one dead letter, or for all that match and have not been replayed yet.

    --set title=Mended --set options.max_attempts=3 changes fields; a value is JSON, or else a text.
    """
    _one_or_many(operation, every=every, group=group, expression=expression)
    if operation:
        if rate:
            raise click.UsageError("--rate is for many")
        request = admin_pb2.ReplayDeadLetterRequest(operation=operation, service=service_of(operation))
        request.request_id = request_id
        await _edit(gateway, request, edited, assignments)
        _show_replays(output, [await gateway.call(request)], single=True)
        return 0
    if edited is not None or request_id:
        raise click.UsageError("--edited and --request-id are for one")

    async def replay_of(name: str) -> admin_pb2.ReplayDeadLettersResponse:
        many = admin_pb2.ReplayDeadLettersRequest(service=name, group=group, limit=limit, filter=expression)
        if assignments and not await _patch_all(gateway, many, assignments):
            return admin_pb2.ReplayDeadLettersResponse()
        many.rate = rate or 0
        seconds = timedelta(seconds=limit / rate) if rate else timedelta()
        answer: admin_pb2.ReplayDeadLettersResponse = await gateway.call(many, timeout=seconds + _ANSWER_MARGIN)
        return answer

    answers = await each_service(service, replay_of)
    _show_replays(output, [each for answer in answers.values() for each in answer.operations])
    return answers.exit_code


@dead_letters.command("discard", epilog=failures.EXIT_CODES)
@click.argument("operation", required=False)
@_matching
@over_a_gateway
async def discard(  # noqa: PLR0913 - one parameter for each option
    operation: str | None,
    service: tuple[str, ...],
    group: str,
    expression: str,
    limit: int,
    *,
    every: bool,
    gateway: aio.Client,
    output: Output,
) -> int:
    """Take one, or all that match, off the dead letters; the operations stay FAILED."""
    _one_or_many(operation, every=every, group=group, expression=expression)
    if operation:
        await gateway.call(admin_pb2.DiscardDeadLetterRequest(service=service_of(operation), operation=operation))
        _show_discards(output, 1, f"{operation} is discarded")
        return 0

    def ask(name: str) -> Awaitable[admin_pb2.DiscardDeadLettersResponse]:
        request = admin_pb2.DiscardDeadLettersRequest(service=name, group=group, filter=expression, limit=limit)
        return gateway.call(request, timeout=_ANSWER_MARGIN)

    answers = await each_service(service, ask)
    count = sum(answer.discarded for answer in answers.values())
    _show_discards(output, count, f"{count} dead letters are discarded")
    return answers.exit_code


def _one_or_many(operation: str | None, *, every: bool, group: str, expression: str) -> None:
    chosen = [bool(operation), every, bool(group or expression)]
    if sum(chosen) != 1:
        raise click.UsageError("name one OPERATION, or choose many by --filter or --group, or --all")


async def _get(gateway: aio.Client, operation: str) -> admin_pb2.DeadLetter:
    letter: admin_pb2.DeadLetter = await gateway.call(
        admin_pb2.GetDeadLetterRequest(service=service_of(operation), operation=operation)
    )
    return letter


async def _edit(
    gateway: aio.Client,
    request: admin_pb2.ReplayDeadLetterRequest,
    edited: str | None,
    assignments: tuple[str, ...],
) -> None:
    """The whole payload as given, or the original's with some fields changed."""
    if edited is not None and assignments:
        raise click.UsageError("--edited gives the whole payload, --set changes it: one of both")
    if edited is not None:
        contracts.load()
        payload = contracts.message_from_json(edited, AnyMessage.DESCRIPTOR)
        request.edited_request.MergeFromString(payload.SerializeToString())
    elif assignments:
        original = contracts.unpacked((await _get(gateway, request.operation)).request)
        request.edited_request.Pack(edits.merged(original, edits.patch(original, assignments)))


async def _patch_all(
    gateway: aio.Client, request: admin_pb2.ReplayDeadLettersRequest, assignments: tuple[str, ...]
) -> bool:
    """The patch has the type of one that matches; False where none does. The service refuses it for other types."""
    listing = admin_pb2.ListDeadLettersRequest(
        service=request.service, group=request.group, filter=request.filter, page_size=1
    )
    page: admin_pb2.ListDeadLettersResponse = await gateway.call(listing)
    if not page.dead_letters:
        return False
    original: Message = contracts.unpacked((await _get(gateway, page.dead_letters[0].operation)).request)
    request.payload_patch.Pack(edits.patch(original, assignments))
    return True


def _show_replays(output: Output, accepted: list[operations_pb2.Operation], *, single: bool = False) -> None:
    if output.as_json and single:
        output.message(accepted[0])
    elif output.as_json:
        output.json(out.answers_as_json(accepted, "operations"))
    else:
        for operation in accepted:
            output.text(operation.name)
        if not single:
            click.echo(f"{len(accepted)} replayed", err=True)


def _show_discards(output: Output, count: int, text: str) -> None:
    if output.as_json:
        output.json({"discarded": count})
    else:
        output.text(text)
