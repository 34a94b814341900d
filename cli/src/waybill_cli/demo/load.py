"""Keeping processors busy on purpose."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

# Long enough to cost the interpreter nothing, short enough to stop at once.
_ROUNDS = 50_000
# Below this many processors' worth of time a group cannot fill one processor beside the stack.
_MIN_QUOTA = 1.5
_CGROUP_V2, _CGROUP_V1 = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu")


class Load:
    """Threads that compute outside the interpreter's lock until stopped."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, processor: int | None) -> None:
        """One thread bound to that processor, or one unbound for each where it is None."""
        self.stop()
        self._stop.clear()
        count = 1 if processor is not None else os.cpu_count() or 1
        self._threads = [
            threading.Thread(name="load", target=self._burn, args=(processor,), daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _burn(self, processor: int | None) -> None:
        if processor is not None:
            os.sched_setaffinity(0, {processor})  # of this thread alone
        while not self._stop.is_set():
            hashlib.pbkdf2_hmac("sha256", b"waybill", b"load", _ROUNDS)


def processors_to_fill() -> Collection[int]:
    """Processors, from 0, that a thread of ours can be bound to and fill; none where that is not to be had."""
    if not hasattr(os, "sched_setaffinity") or _quota() < _MIN_QUOTA:
        return ()
    return os.sched_getaffinity(0)


def _quota() -> float:
    """How many processors' worth of time this control group may use."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = _CGROUP_V2.read_text().split()
        return float("inf") if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota_us = int((_CGROUP_V1 / "cpu.cfs_quota_us").read_text())
        return quota_us / int((_CGROUP_V1 / "cpu.cfs_period_us").read_text()) if quota_us > 0 else float("inf")
    return float("inf")
