"""A real process under test: started, read, told to end, killed, started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from chassis.tether import from_a_lasting_thread, tethered

READY_SECONDS: Final = 60.0
END_SECONDS: Final = 30.0
EVENT_SECONDS: Final = 20.0

LogEvent = Mapping[str, Any]


class ProcessUnderTest:
    """One process, over any number of lives. Its output is kept, as lines and as log events.

    Args:
        name: what messages call it.
        command: what is run.
        environment: all of it.
        ready_event: the log event by which it says that it works; empty: started is ready.
        directory: where it runs.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, ready_event: str, directory: Path
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.lines: list[str] = []
        self.events: list[LogEvent] = []
        self._ready_event = ready_event
        self._directory = directory
        self._said = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._born_at = 0

    def start(self, *, wait: bool = True) -> None:
        """Start it and, unless told otherwise, wait until it says that it works."""
        if self.running:
            return
        self._born_at = self.mark()
        self._process = from_a_lasting_thread(
            subprocess.Popen,
            tethered(self.command, os.getpid(), on_death=signal.SIGKILL),
            env=self.environment,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        output = self._process.stdout
        threading.Thread(target=self._read, args=(output,), name=f"log of {self.name}", daemon=True).start()
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, timeout: float = READY_SECONDS) -> None:
        """Raises TimeoutError, or ChildProcessError when it has ended instead."""
        if self._ready_event:
            self.wait_for_event(self._ready_event, since=self._born_at, timeout=timeout)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Raises ChildProcessError where it has not been started."""
        if self._process is None:
            raise ChildProcessError(f"{self.name} has not been started")
        return self._process.pid

    def terminate(self) -> None:
        """SIGTERM: it drains. `wait` tells when it has."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float = END_SECONDS) -> int:
        """Its exit code once it has ended; negative for a signal. Raises TimeoutError."""
        if self._process is None:
            raise ChildProcessError(f"{self.name} has not been started")
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout} s; it wrote\n{self.tail()}") from None

    def stop(self, timeout: float = END_SECONDS) -> int:
        """SIGTERM, then wait; its exit code."""
        if self.running:
            self.terminate()
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to this process alone: what a crash or the kernel does. Its children are left to themselves."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def restart(self) -> None:
        """Drain it, then start it."""
        if self.running:
            self.stop()
        self.start()

    def end(self) -> None:
        """SIGKILL to all that is left of it, children included."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def mark(self) -> int:
        """A place in its log: `wait_for_event(..., since=mark)` looks at what comes after."""
        with self._said:
            return len(self.events)

    def wait_for_event(
        self, event: str, *, since: int = 0, timeout: float = EVENT_SECONDS, **fields: object
    ) -> LogEvent:
        """The first log line of this event with these fields.

        Raises:
            TimeoutError: there is none within `timeout` seconds; the message ends with the log.
            ChildProcessError: the process has ended without it.
        """

        def wanted(line: LogEvent) -> bool:
            return line.get("event") == event and all(line.get(key) == value for key, value in fields.items())

        return self._wait(wanted, f"{event} {fields or ''}", since, timeout)

    def wait_for_line(self, part: str, *, since: int = 0, timeout: float = EVENT_SECONDS) -> LogEvent:
        """The first line that has this in it, whoever wrote it. Raises as `wait_for_event` does."""
        return self._wait(lambda line: part in str(line), part, since, timeout)

    def tail(self, lines: int = 60) -> str:
        """The end of its output."""
        with self._said:
            return "\n".join(self.lines[-lines:])

    def _wait(self, wanted: Callable[[LogEvent], bool], what: str, since: int, seconds: float) -> LogEvent:
        until = time.monotonic() + seconds
        position = since
        with self._said:
            while True:
                for line in self.events[position:]:
                    if wanted(line):
                        return line
                position = len(self.events)
                if not self.running and self._drained():
                    raise ChildProcessError(f"{self.name} ended without {what}; it wrote\n{self.tail()}")
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{self.name} has not said {what} after {seconds} s; it wrote\n{self.tail()}")
                self._said.wait(min(left, 0.5))

    def _drained(self) -> bool:
        """Whether all that an ended process wrote has been read."""
        return self._process is None or self._process.stdout is None or self._process.stdout.closed

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                with self._said:
                    self.lines.append(line.rstrip("\n"))
                    self.events.append(_event(line))
                    self._said.notify_all()


def _event(line: str) -> LogEvent:
    """A log line as its fields; what is no log line is `line`."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            fields: LogEvent = json.loads(line)
            return fields
    return {"line": line}
