"""The `waybill` command."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from chassis.settings import SettingsError
from chassis.sizing import Policy

from waybill_cli import settings, up
from waybill_cli.commands import dead_letters, operations, queues, tokens, top, trace, watch, workers
from waybill_cli.commands.edge import AccessTo, with_access
from waybill_cli.completion import completion
from waybill_cli.demo import command as demo
from waybill_cli.demo.site import new_folder
from waybill_cli.failures import EXIT_CODES
from waybill_cli.plan import PlanError, make_plan
from waybill_cli.supervisor import StackError
from waybill_cli.terminal import fitting_console
from waybill_cli.views import JsonView, LineView, LiveView, StackView

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(package_name="waybill-cli")
def main() -> None:
    """Celery work behind gRPC: start a stack, hand it work, follow it."""


@main.command("up")
@click.option("--state-dir", type=_FOLDER, help="Where the stack keeps everything. Default: WAYBILL_STATE_DIR.")
@click.option("--port-base", type=click.IntRange(1, 65_000), help="First of a row of ports, for a second stack.")
@click.option("--listen", multiple=True, metavar="NAME=HOST:PORT", help="A service, dashboard or traces; repeatable.")
@click.option("--no-dashboard", is_flag=True, help="Without dashboard and trace receiver.")
@click.option("--only", multiple=True, metavar="SERVICE", help="Only this service; repeatable.")
@click.option("--workers", type=click.IntRange(1, 64), help="Workers of each service. Default: 1.")
@click.option("--autoscale", is_flag=True, help="Add and drain workers of each service as there is work.")
@click.option("--min-workers", type=click.IntRange(0, 64), help="With --autoscale, of each service. Default: 1.")
@click.option("--max-workers", type=click.IntRange(1, 64), help="With --autoscale, of each service. Default: 4.")
@click.option("--down-after", type=click.IntRange(1, 86_400), help="With --autoscale, seconds. Default: 60.")
@click.option("--grace", type=click.IntRange(0, 3_600), default=45, show_default=True, help="Seconds to drain in.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, the services' own untouched.")
def up_command(  # noqa: PLR0913 - one parameter for each option
    *,
    state_dir: Path | None,
    port_base: int | None,
    listen: tuple[str, ...],
    no_dashboard: bool,
    only: tuple[str, ...],
    workers: int | None,
    autoscale: bool,
    min_workers: int | None,
    max_workers: int | None,
    down_after: int | None,
    grace: int,
    as_json: bool,
) -> None:
    """Start a whole stack on this machine, until Ctrl-C."""
    bounds = (min_workers, max_workers, down_after)
    if autoscale and workers is not None:
        raise click.UsageError("--workers and --autoscale exclude each other: the start is with --min-workers")
    if not autoscale and any(bound is not None for bound in bounds):
        raise click.UsageError("--min-workers, --max-workers and --down-after belong to --autoscale")
    try:
        plan = make_plan(
            settings.environment(),
            (state_dir or settings.state_dir()).absolute(),
            only=only,
            dashboard=not no_dashboard,
            port_base=port_base,
            listen=dict(_pair(item) for item in listen),
            workers=workers or 1,
            autoscale=_policy(*bounds) if autoscale else None,
        )
    except (PlanError, SettingsError) as error:
        raise click.UsageError(str(error)) from error
    sys.exit(asyncio.run(up.run(plan, _view(as_json=as_json), grace=timedelta(seconds=grace))))


@main.command("demo")
@click.option("--state-dir", type=_FOLDER, help="Keeps what the demo leaves. Default: WAYBILL_STATE_DIR.")
@click.option("--gateway", metavar="HOST:PORT", help="Use this running stack instead of one of its own.")
@click.option("--traces", metavar="HOST:PORT", help="That stack's trace receiver; without it no trace is shown.")
@click.option("--maildir", type=_FOLDER, help="Where that stack puts mail; without it no mail is looked into.")
@with_access
def demo_command(
    *, state_dir: Path | None, gateway: str | None, traces: str | None, maildir: Path | None, access_to: AccessTo
) -> None:
    """The incident pipeline on this machine's live metrics: from samples to a mailed report and its trace."""
    try:
        folder = new_folder((state_dir or settings.state_dir()).absolute(), datetime.now(UTC))
    except (SettingsError, StackError) as error:
        raise click.UsageError(str(error)) from error
    if (traces or maildir) and not gateway:
        raise click.UsageError("--traces and --maildir describe the stack that --gateway names")
    elsewhere = demo.Elsewhere(gateway, traces, maildir, access_to(gateway)) if gateway else None
    sys.exit(asyncio.run(demo.run(folder, settings.environment(), fitting_console(), elsewhere)))


def _view(*, as_json: bool) -> StackView:
    console = fitting_console()
    if as_json:
        return JsonView(sys.stdout)
    return LiveView(console) if console.is_terminal else LineView(console)


def _policy(min_workers: int | None, max_workers: int | None, down_after: int | None) -> Policy:
    return Policy(
        min_workers=1 if min_workers is None else min_workers,
        max_workers=4 if max_workers is None else max_workers,
        down_window=timedelta(seconds=60 if down_after is None else down_after),
    )


def _pair(item: str) -> tuple[str, str]:
    name, equals, address = item.partition("=")
    if not equals:
        raise click.UsageError(f"--listen {item}: expected NAME=HOST:PORT")
    return name, address


for _command in (
    operations.submit,
    operations.operations,
    watch.watch,
    top.top,
    queues.queues,
    workers.workers,
    dead_letters.dead_letters,
    trace.trace,
    tokens.tokens,
    completion,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
