"""Event loops for tests that serve gRPC."""

from __future__ import annotations

import asyncio
from typing import Any


def grpc_loop() -> asyncio.AbstractEventLoop:
    """A loop that takes gRPC's empty wake-ups for what they are.

    Every loop on which grpc.aio has run reads one pipe of the process; the one that comes second finds it empty and
    raises BlockingIOError in a callback, which changes nothing. What it finds for a loop that has been closed since, it
    cannot hand on: "Event loop is closed".
    """
    loop = asyncio.new_event_loop()
    loop.call_exception_handler = _tolerant(loop)  # type: ignore[method-assign]
    return loop


def _tolerant(loop: asyncio.AbstractEventLoop) -> Any:
    report = loop.call_exception_handler

    def handle(context: dict[str, Any]) -> None:
        error = context.get("exception")
        harmless = isinstance(error, BlockingIOError) or str(error) == "Event loop is closed"
        if not (harmless and "PollerCompletionQueue" in str(context)):
            report(context)

    return handle
