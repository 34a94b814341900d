"""`waybill trace`: one trace as a tree."""

from __future__ import annotations

from collections.abc import Sequence

import click
from waybill.traces.v1 import traces_pb2
from waybill_client import WaybillError, aio

from waybill_cli import failures, trace_tree
from waybill_cli.client import TraceReceiver
from waybill_cli.commands.edge import access_of, over_a_gateway
from waybill_cli.output import Output, answers_as_json
from waybill_cli.settings import DEFAULT_TRACES


@click.command("trace", epilog=failures.EXIT_CODES)
@click.argument("identity", metavar="ID")
@click.option(
    "--traces",
    envvar="DASHBOARD_TRACES_TARGET",
    default=DEFAULT_TRACES,
    show_default=True,
    metavar="HOST:PORT",
    help="The dashboard's trace receiver. Or DASHBOARD_TRACES_TARGET.",
)
@over_a_gateway
async def trace(identity: str, traces: str, *, gateway: aio.Client, output: Output) -> int:
    """The trace of this id, or of this operation, as the trace receiver has it."""
    trace_id = await _trace_id(gateway, identity)
    spans: Sequence[traces_pb2.Span]
    async with TraceReceiver(traces, access_of(gateway)) as receiver:
        try:
            spans = await receiver.spans(trace_id)
        except WaybillError as error:
            if output.as_json:
                output.json_line({"error": failures.call_json(error)})
            click.echo(f"{traces}: {failures.call_text(error)}", err=True)
            return failures.exit_code_of_call(error)
    if output.as_json:
        output.json({"trace_id": trace_id, **answers_as_json(spans, "spans")})
    else:
        output.console.print(trace_tree.rendered(spans))
    return 0


async def _trace_id(gateway: aio.Client, identity: str) -> str:
    if identity.startswith("operations/"):
        return (await gateway.operations.get(identity)).metadata.trace_id
    return identity.lower()
