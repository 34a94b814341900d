"""`waybill demo`: a stack of its own, or a running one, and the story told on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from waybill_client import WaybillError, aio

from waybill_cli.client import OPEN, Access
from waybill_cli.demo.feed import Feed
from waybill_cli.demo.narrator import Narrator
from waybill_cli.demo.site import SERVICES, LogFiles, Site, log_file, maildir_of, own_plan
from waybill_cli.demo.source import MetricSource
from waybill_cli.demo.story import StepFailedError, Story
from waybill_cli.failures import call_text
from waybill_cli.interrupts import Interrupts
from waybill_cli.stack import Stack
from waybill_cli.supervisor import StackError
from waybill_cli.trace_tree import duration_text

EXIT_INTERRUPTED = 130
_START_LIMIT = timedelta(seconds=150)
_OPEN_SECONDS = 20.0
_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A stack that is running already; what is None is done without."""

    gateway: str
    traces: str | None
    maildir: Path | None
    access: Access = OPEN


async def run(folder: Path, environment: Mapping[str, str], console: Console, elsewhere: Elsewhere | None) -> int:
    """Tell the story on a stack that is started for it and drained after it, or `elsewhere`."""
    narrator = Narrator(console)
    plan = own_plan(environment, folder)
    stack = Stack(plan, observer=LogFiles(folder / "logs"), start_limit=_START_LIMIT)
    place = elsewhere or Elsewhere(plan.gateway, plan.addresses["traces"], maildir_of(plan))
    site = Site(place.gateway, place.traces, place.maildir, folder, plan.environment, place.access)
    telling = asyncio.create_task(_tell(site, narrator) if elsewhere else _tell_on(stack, site, narrator))
    with Interrupts(telling.cancel, stack.kill).heard():
        try:
            await telling
        except StepFailedError as error:
            _explain(error, folder, narrator)
            return 1
        except StackError as error:
            narrator.show(f"The stack did not start: {error}\nThe logs lie in {site.logs}")
            return 1
        except asyncio.CancelledError:
            narrator.show("Interrupted.")
            return EXIT_INTERRUPTED
    narrator.show(f"Done in {duration_text(narrator.elapsed)}.")
    return 0


async def _tell(site: Site, narrator: Narrator) -> None:
    source = MetricSource(site.gateway, log_file(site.logs, "source"), site.environment, site.access)
    async with site.access.connect(site.gateway, patience=None) as gateway, AsyncExitStack() as opened:
        feed = await _opened_feed(gateway, opened)
        await opened.enter_async_context(source)
        await Story(site, gateway, feed, source, narrator).tell()


async def _opened_feed(gateway: aio.Client, opened: AsyncExitStack) -> Feed:
    """The events of every service, from now on; raises StepFailedError where a stream cannot be opened."""
    title = f"Follow the events of every service through {gateway.address}"
    involved = [f"{service} gateway" for service in SERVICES]
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            return await opened.enter_async_context(Feed(gateway, tuple(SERVICES)))
    except TimeoutError:
        raise StepFailedError(title, f"no answer within {_OPEN_SECONDS:g} s", involved) from None
    except WaybillError as error:
        raise StepFailedError(title, call_text(error), involved) from error


async def _tell_on(stack: Stack, site: Site, narrator: Narrator) -> None:
    with narrator.step("Start Valkey, three services and the dashboard") as step:
        await stack.__aenter__()
        dashboard = stack.plan.addresses["dashboard"]
        step.outcome = f"{len(stack.statuses)} processes, dashboard on http://{dashboard}"
    try:
        await _tell(site, narrator)
    finally:
        with narrator.step("Drain the stack") as step:
            await stack.__aexit__(None, None, None)
            step.outcome = ", ".join(f"had to kill {status.spec.name}" for status in stack.killed)


def _explain(error: StepFailedError, folder: Path, narrator: Narrator) -> None:
    """Which step, why, and the end of the logs that know more."""
    narrator.show(f"\nThe demo failed. {error}")
    for process in error.involved:
        log = log_file(folder / "logs", process)
        if log.is_file():
            narrator.show(f"\n{log}:")
            for line in log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]:
                narrator.console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    narrator.show(f"\nAll logs lie in {folder / 'logs'}")
