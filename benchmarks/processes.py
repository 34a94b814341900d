"""Processes that a benchmark starts, and the waiting for what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from chassis.tether import tethered

HERE = Path(__file__).parent
PATIENCE_SECONDS = 240.0


@contextlib.contextmanager
def running(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python <arguments>` in this folder, ended with SIGTERM at the end of the block, or when this process dies.

    In a session of its own, so that Ctrl-C reaches only this process, which then ends it in order.
    """
    process = subprocess.Popen(
        tethered([sys.executable, *arguments], os.getpid()),
        cwd=HERE,
        env=_environment(environment),
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("BENCH_STDERR") else subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def output(*arguments: str, **environment: str) -> str:
    """What `python <arguments>` prints. Raises CalledProcessError when it fails."""
    return subprocess.run(
        tethered([sys.executable, *arguments], os.getpid()),
        cwd=HERE,
        env=_environment(environment),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=PATIENCE_SECONDS * 2,
        start_new_session=True,
    ).stdout


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE), "WAYBILL_LOG_LEVEL": "error", **more}


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; what is still there after 20 s, children included, is killed."""
    children = _children(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def cpu_seconds(pid: int) -> float:
    """What a process and its children, those that ended too, have used so far. Resolution: 10 ms."""
    used = 0.0
    for process in (psutil.Process(pid), *_children(pid)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return used


def scheduled_seconds(pid: int) -> float:
    """What the threads of a process that run now have used so far, to the nanosecond; Linux."""
    used = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            used += int((task / "schedstat").read_text().split()[0])
    return used / 1e9


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str, *, every: float = 0.02) -> None:
    """Wait for a condition. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(every)
