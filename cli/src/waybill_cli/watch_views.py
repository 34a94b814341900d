"""Changes of operations as they come: JSON lines, plain lines, or bars that move."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text
from waybill_client import Change, State

from waybill_cli.output import Output, state_text

#: Bars at once; of more, those that have not moved for longest give way.
MAX_BARS = 16
_STATE_WIDTH = max(map(len, State))


class WatchView(Protocol):
    """Shows changes. Entered while they come."""

    def live(self) -> AbstractContextManager[object]: ...

    def change(self, change: Change) -> None: ...


class LineWatch:
    """One line for each change; JSON lines with --json."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def live(self) -> AbstractContextManager[object]:
        return nullcontext()

    def change(self, change: Change) -> None:
        if self._output.as_json:
            self._output.json_line(change_json(change))
        else:
            self._output.text(change_text(change))


class BarWatch:
    """A bar for each operation that has not ended; a line above them for each that has."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            _StateColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("[dim]{task.fields[detail]}", markup=True),
            console=console,
            transient=True,
        )
        self._bars: OrderedDict[str, TaskID] = OrderedDict()

    def live(self) -> AbstractContextManager[object]:
        return self._progress

    def change(self, change: Change) -> None:
        if change.state.final:
            self._end(change.operation)
            self._progress.console.print(change_text(change), soft_wrap=True)
            return
        bar = self._bars.get(change.operation)
        if bar is None:
            self._make_room()
            bar = self._progress.add_task(change.operation, total=100, state=change.state, detail="")
            self._bars[change.operation] = bar
        self._bars.move_to_end(change.operation)
        percent = change.progress.percent if change.progress else 0
        self._progress.update(bar, completed=percent, state=change.state, detail=_detail(change))

    def _make_room(self) -> None:
        if len(self._bars) >= MAX_BARS:
            self._end(next(iter(self._bars)))

    def _end(self, operation: str) -> None:
        bar = self._bars.pop(operation, None)
        if bar is not None:
            self._progress.remove_task(bar)


class _StateColumn(ProgressColumn):
    """The operation's state, in its colour."""

    max_refresh = None

    def render(self, task: Task) -> Text:
        return _padded(State(task.fields["state"]))


def change_text(change: Change) -> Text:
    """Clock, name, what happened, state, task and attempt, progress or error."""
    text = Text(f"{change.time.astimezone():%H:%M:%S} {change.operation}  {change.kind:<11}")
    text.append(_padded(change.state))
    text.append(f"  {change.task}  attempt {change.attempt}/{change.max_attempts}", style="dim")
    if change.progress:
        text.append(f"  {change.progress.percent} % {change.progress.message}".rstrip())
    if change.error_message:
        text.append(f"  {change.error_message}", style="red")
    return text


def change_json(change: Change) -> dict[str, object]:
    """What `watch --json` prints of a change; cursor, worker, error_message and progress where they are known."""
    told: dict[str, object] = {
        "operation": change.operation,
        "kind": change.kind,
        "state": change.state.value,
        "task": change.task,
        "queue": change.queue,
        "attempt": change.attempt,
        "max_attempts": change.max_attempts,
        "time": change.time.isoformat(),
        "cursor": change.cursor,
        "worker": change.worker,
        "error_message": change.error_message,
    }
    if change.progress:
        told["progress"] = {"percent": change.progress.percent, "message": change.progress.message}
    optional = {"cursor", "worker", "error_message"}
    return {key: value for key, value in told.items() if value != "" or key not in optional}


def _padded(state: State) -> Text:
    text = state_text(state)
    text.pad_right(max(0, _STATE_WIDTH - len(text)))
    return text


def _detail(change: Change) -> str:
    said = [change.task, f"attempt {change.attempt}/{change.max_attempts}"]
    said += [change.progress.message] if change.progress and change.progress.message else []
    said += [change.error_message] if change.error_message else []
    return "  ".join(said).replace("[", r"\[")
