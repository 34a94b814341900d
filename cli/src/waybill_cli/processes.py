"""One supervised process: started, watched, started again with backoff, and ended with its whole group."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from chassis.tether import tethered

READY_POLL_SECONDS = 0.25
TAIL_LINES = 20
_MAX_LINE_BYTES = 1 << 20
# How long output is read after the end, should a child that left the group hold the pipe.
_LAST_WORDS_SECONDS = 2.0
# By chassis.process: the settings are wrong, and another start would find the same.
EXIT_BAD_SETTINGS = 2


class ProcessState(enum.Enum):
    """Where a supervised process stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"
    ENDED = "ended"


class Stage(enum.IntEnum):
    """The order in which a stack drains: what brings work in goes before what does it."""

    INTAKE = 1
    GATEWAY = 2
    WORKER = 3
    DASHBOARD = 4
    STORE = 5


@dataclass(frozen=True)
class ProcessSpec:
    """What is run and how one can tell that it works.

    Ready is what has written a line that holds `says`, where that is given, and of which `is_ready`
    says yes; that is asked with the pid and does not raise.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    stage: Stage
    is_ready: Callable[[int], Awaitable[bool]]
    says: str = ""
    address: str = ""
    directory: Path | None = None


@dataclass(frozen=True)
class Backoff:
    """How long to wait before another start: doubling from `first` to `most`, forgotten after a life of `steady`."""

    first: timedelta = timedelta(seconds=0.5)
    most: timedelta = timedelta(seconds=30)
    steady: timedelta = timedelta(seconds=30)

    def delay(self, deaths: int) -> timedelta:
        """The wait after so many deaths in a row, from 1."""
        return min(self.first * (1 << min(deaths - 1, 30)), self.most)


@dataclass
class Status:
    """What a table shows of a process."""

    spec: ProcessSpec
    state: ProcessState = ProcessState.WAITING
    pid: int | None = None
    # Deaths since it last lived for long.
    deaths: int = 0
    exit_code: int | None = None
    retry_in: timedelta = timedelta()
    has_said: bool = False
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class Observer:
    """Told of everything that supervised processes do; this one ignores it."""

    def changed(self, status: Status) -> None:
        """A process went to another state."""

    def died(self, status: Status) -> None:
        """A process ended that nobody had told to."""

    def line(self, status: Status, text: str) -> None:
        """A process wrote a line."""


class SupervisedProcess:
    """Keeps one process running until told to drain."""

    def __init__(self, spec: ProcessSpec, observer: Observer, backoff: Backoff) -> None:
        self.status = Status(spec)
        self._observer = observer
        self._backoff = backoff
        self._draining = asyncio.Event()
        self._killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=self.status.spec.name)

    def fail_on_error(self) -> None:
        """Raise what went wrong in the keeping itself, a program that is not there for example."""
        if self._keeper and self._keeper.done() and not self._keeper.cancelled():
            self._keeper.result()

    async def drain(self, grace: timedelta | None) -> bool:
        """End it: SIGTERM, and SIGKILL to its group after `grace`; None: never. Whether it ended by itself."""
        told_before = self._draining.is_set()
        self._draining.set()
        if self._keeper is None:
            return True
        if not told_before and self._process is not None and self._process.returncode is None:
            self._show(ProcessState.DRAINING)
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        done, _ = await asyncio.wait({self._keeper}, timeout=None if grace is None else grace.total_seconds())
        if not done:
            self.kill()
            await asyncio.wait({self._keeper})
        return bool(done)

    def kill(self) -> None:
        """SIGKILL to its whole group, now; it is not started again."""
        self._draining.set()
        self._killed = True
        if self._process is not None:
            kill_group(self._process.pid)

    async def _keep(self) -> None:
        while not self._draining.is_set():
            lived = await self._live_once()
            if self._draining.is_set():
                break
            await self._wait_for_the_next_start(lived)
        self._show(ProcessState.ENDED)

    async def _live_once(self) -> timedelta:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        self._process, output = await self._spawn()
        process = self._process
        self.status.has_said = not self.status.spec.says
        self._show(ProcessState.STARTING, pid=process.pid)
        watch = asyncio.create_task(self._watch_until_ready(process.pid))
        pump = asyncio.create_task(self._pump(output))
        if self._killed:  # told so while it was being started
            kill_group(process.pid)
        elif self._draining.is_set():
            process.terminate()
        self.status.exit_code = await process.wait()
        kill_group(process.pid)
        await asyncio.wait({pump}, timeout=_LAST_WORDS_SECONDS)
        for task in (pump, watch):
            task.cancel()
        await asyncio.gather(pump, watch, return_exceptions=True)
        self.status.pid = None
        return timedelta(seconds=loop.time() - begin)

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        """The process and its output. The pipe is ours: with asyncio's own, a child that holds it hides the end."""
        spec = self.status.spec
        read_end, write_end = os.pipe()
        output = await _reader_of(read_end)
        try:
            process = await asyncio.create_subprocess_exec(
                *tethered(spec.command, os.getpid()),
                env=dict(spec.environment),
                cwd=spec.directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        return process, output

    async def _wait_for_the_next_start(self, lived: timedelta) -> None:
        steady = lived >= self._backoff.steady
        self.status.deaths = 1 if steady else self.status.deaths + 1
        self.status.retry_in = self._backoff.delay(self.status.deaths)
        self._show(ProcessState.RESTARTING)
        self._observer.died(self.status)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.status.retry_in.total_seconds()):
                await self._draining.wait()

    async def _watch_until_ready(self, pid: int) -> None:
        while not (self.status.has_said and await self.status.spec.is_ready(pid)):  # noqa: ASYNC110 - by another process
            await asyncio.sleep(READY_POLL_SECONDS)
        if not self._draining.is_set():
            self._show(ProcessState.READY)

    async def _pump(self, output: asyncio.StreamReader) -> None:
        """Hand on the output line by line until every holder of the pipe has closed it."""
        rest = b""
        while chunk := await output.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._say(line)
            if len(rest) > _MAX_LINE_BYTES:
                self._say(rest)
                rest = b""
        if rest:
            self._say(rest)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self.status.tail.append(text)
        self.status.has_said = self.status.has_said or self.status.spec.says in text
        self._observer.line(self.status, text)

    def _show(self, state: ProcessState, *, pid: int | None = None) -> None:
        self.status.state = state
        self.status.pid = pid or self.status.pid
        self._observer.changed(self.status)


async def _reader_of(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def kill_group(pid: int) -> None:
    """SIGKILL to every process of the group that this pid leads, or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
