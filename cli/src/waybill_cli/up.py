"""`waybill up`: a whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from waybill_cli.autoscale import autoscale
from waybill_cli.interrupts import Interrupts
from waybill_cli.plan import Plan
from waybill_cli.stack import DRAIN_GRACE, Stack
from waybill_cli.supervisor import StackError
from waybill_cli.views import StackView

EXIT_KILLED = 130


async def run(plan: Plan, view: StackView, *, grace: timedelta = DRAIN_GRACE) -> int:
    """Start the stack, show it, drain it at the first SIGINT or SIGTERM and kill it at the second.

    Returns 0 after a drain in which nothing had to be killed.
    """
    stack = Stack(plan, observer=view, grace=grace)
    body = asyncio.create_task(_until_cancelled(stack, view))

    def drain() -> None:
        view.end_of_start()
        view.say("stack.draining", "Draining; Ctrl-C again kills.")
        body.cancel()

    def kill() -> None:
        view.say("stack.killed", "Killing.")
        stack.kill()

    interrupts = Interrupts(drain, kill)
    with interrupts.heard():
        try:
            await body
        except asyncio.CancelledError:
            return _outcome(stack, view, killed=interrupts.count > 1)
        except StackError as error:
            view.say("stack.failed", f"waybill up: {error}")
    return 1


async def _until_cancelled(stack: Stack, view: StackView) -> None:
    view.begin(lambda: stack.statuses)
    try:
        async with stack:
            view.end_of_start()
            view.say("stack.ready", _addresses(stack))
            if stack.plan.autoscale is not None:
                await autoscale(stack, view, stack.plan.autoscale)
            await asyncio.Event().wait()
    finally:
        view.end_of_start()


def _addresses(stack: Stack) -> str:
    plan = stack.plan
    dashboard = plan.addresses.get("dashboard")
    lines = [
        "The stack is ready. Ctrl-C drains it.",
        f"  dashboard  http://{dashboard}" if dashboard else "",
        *(f"  {service:<9}  {plan.addresses[service]}" for service in plan.services),
        f"  redis      {stack.redis_url}",
        f"  state      {plan.state_dir}",
    ]
    return "\n".join(line for line in lines if line)


def _outcome(stack: Stack, view: StackView, *, killed: bool) -> int:
    if killed:
        return EXIT_KILLED
    if stack.killed:
        named = ", ".join(status.spec.name for status in stack.killed)
        view.say("stack.drained", f"Drained; had to be killed: {named}.")
        return 1
    view.say("stack.drained", "Drained.")
    return 0
