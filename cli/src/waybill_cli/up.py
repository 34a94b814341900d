"""`waybill up`: a whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta

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
    interrupts = _Interrupts(body, stack, view)
    interrupts.listen()
    try:
        await body
    except asyncio.CancelledError:
        pass
    except StackError as error:
        view.end_of_start()
        view.say("stack.failed", f"waybill up: {error}")
        return 1
    finally:
        interrupts.ignore()
    return _outcome(stack, view, killed=interrupts.count > 1)


async def _until_cancelled(stack: Stack, view: StackView) -> None:
    view.begin(lambda: stack.statuses)
    try:
        async with stack:
            view.end_of_start()
            view.say("stack.ready", _addresses(stack))
            await asyncio.Event().wait()
    finally:
        view.end_of_start()


class _Interrupts:
    """The first one drains, the second one kills."""

    def __init__(self, body: asyncio.Task[None], stack: Stack, view: StackView) -> None:
        self.count = 0
        self._body = body
        self._stack = stack
        self._view = view

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupted)

    def ignore(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _interrupted(self) -> None:
        self.count += 1
        if self.count == 1:
            self._view.end_of_start()
            self._view.say("stack.draining", "Draining; Ctrl-C again kills.")
            self._body.cancel()
        else:
            self._view.say("stack.killed", "Killing.")
            self._stack.kill()


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
