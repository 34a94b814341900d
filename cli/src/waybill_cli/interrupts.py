"""Ctrl-C and SIGTERM: the first one asks for an orderly end, further ones for an end at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts them; calls `first` at the first and `further` at each later one."""

    def __init__(self, first: Callable[[], object], further: Callable[[], object]) -> None:
        self.count = 0
        self._first = first
        self._further = further

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside, signals come here instead of ending the process."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._interrupted)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _interrupted(self) -> None:
        self.count += 1
        if self.count == 1:
            self._first()
        else:
            self._further()
