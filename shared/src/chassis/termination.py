"""How a process on asyncio learns that it is to end."""

from __future__ import annotations

import asyncio
import signal


def termination() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; to be called in the main thread's running loop."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


async def pause(ended: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until `ended` is set; whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return False
    return True
