"""How a running stack is shown: a live table and coloured logs, plain lines, or JSON lines."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from waybill_cli import logs
from waybill_cli.processes import Observer, ProcessState, Status

# So many deaths in a row are called a crash loop.
CRASH_LOOP_DEATHS = 3
_STYLES = {
    ProcessState.WAITING: "dim",
    ProcessState.STARTING: "yellow",
    ProcessState.READY: "green",
    ProcessState.RESTARTING: "bold red",
    ProcessState.DRAINING: "yellow",
    ProcessState.ENDED: "dim",
}


class StackView(Observer):
    """What every form of the view offers beside the observer's calls."""

    def begin(self, statuses: Callable[[], Sequence[Status]]) -> None:
        """The stack is about to start; `statuses` tells how it stands."""

    def end_of_start(self) -> None:
        """The stack is ready, or will not be."""

    def say(self, event: str, text: str) -> None:
        """Something that concerns the stack as a whole."""


class LineView(StackView):
    """One line for each thing that happens; coloured where the console is a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begin = time.monotonic()

    def changed(self, status: Status) -> None:
        if status.state in {ProcessState.READY, ProcessState.ENDED}:
            self._print(status, Text(state_text(status), style=_STYLES[status.state]))

    def died(self, status: Status) -> None:
        self._print(status, Text(death_text(status), style="bold red"))

    def line(self, status: Status, text: str) -> None:
        if text.strip():
            self.console.print(logs.rendered(status.spec.name, text), soft_wrap=True, highlight=False)

    def say(self, event: str, text: str) -> None:
        del event
        self.console.print(Text(text, style="bold"), soft_wrap=True)

    def _print(self, status: Status, text: Text) -> None:
        prefix = Text(f"{status.spec.name:<{logs.PREFIX_WIDTH}} ", style=logs.colour_of(status.spec.name))
        self.console.print(prefix + text, soft_wrap=True, highlight=False)


class LiveView(LineView):
    """A table that is kept up to date while the stack starts, below the lines that are printed."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live: Live | None = None
        self._statuses: Callable[[], Sequence[Status]] = list

    def begin(self, statuses: Callable[[], Sequence[Status]]) -> None:
        self._statuses = statuses
        self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=8)
        self._live.start()

    def end_of_start(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def changed(self, status: Status) -> None:
        if self._live is None:
            super().changed(status)

    def _table(self) -> Table:
        return table_of(self._statuses())


class JsonView(StackView):
    """The processes' own lines, untouched, and this command's in the same shape."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def changed(self, status: Status) -> None:
        self._write("process.changed", process=status.spec.name, state=status.state.value, pid=status.pid)

    def died(self, status: Status) -> None:
        fields = {"process": status.spec.name, "exit_code": status.exit_code, "deaths": status.deaths}
        self._write("process.died", level="error", retry_in=status.retry_in.total_seconds(), **fields)

    def line(self, status: Status, text: str) -> None:
        if logs.is_record(text):
            self._stream.write(f"{text}\n")
            self._stream.flush()
        else:
            self._write("process.output", process=status.spec.name, text=text)

    def say(self, event: str, text: str) -> None:
        self._write(event, text=text)

    def _write(self, event: str, *, level: str = "info", **fields: object) -> None:
        line = {"event": event, "service": "waybill", **fields, "level": level, "time": datetime.now(UTC).isoformat()}
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()


def table_of(statuses: Sequence[Status]) -> Table:
    """Processes, their states, pids and addresses."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("process", "state", "pid", "address", ""):
        table.add_column(heading)
    for status in statuses:
        table.add_row(
            Text(status.spec.name, style=logs.colour_of(status.spec.name)),
            Text(status.state.value, style=_STYLES[status.state]),
            str(status.pid or ""),
            status.spec.address,
            Text(f"{status.deaths} deaths", style="red") if status.deaths else "",
        )
    return table


def state_text(status: Status) -> str:
    """`ready, pid 1234, 127.0.0.1:50051`."""
    shown = [status.state.value]
    if status.pid and status.state is not ProcessState.ENDED:
        shown.append(f"pid {status.pid}")
    if status.spec.address:
        shown.append(status.spec.address)
    return ", ".join(shown)


def death_text(status: Status) -> str:
    """How it ended and when it is started again; in a crash loop with its last words."""
    how = exit_text(status.exit_code)
    again = f"started again in {status.retry_in.total_seconds():g} s"
    if status.deaths < CRASH_LOOP_DEATHS:
        return f"{how}; {again}"
    last = "".join(f"\n    {line}" for line in list(status.tail)[-5:])
    return f"CRASH LOOP: {status.deaths} deaths in a row, the last: {how}; {again}; its last words:{last}"


def exit_text(code: int | None) -> str:
    """`ended with exit code 1` or `was ended by SIGKILL`."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
