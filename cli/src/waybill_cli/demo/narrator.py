"""How the demo tells what happens: steps with a clock, live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.status import Status
from rich.text import Text

from waybill_cli.trace_tree import duration_text


class Step:
    """One step while it is being told; what it found is set in `outcome`."""

    def __init__(self, title: str, status: Status | None) -> None:
        self.title = title
        self.outcome = ""
        self._status = status

    def doing(self, what: str) -> None:
        """Shown beside the title while the step lasts; only on a terminal."""
        if self._status:
            self._status.update(f"{escape(self.title)}  [dim]{escape(what)}[/dim]")


class Narrator:
    """Prints the story."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begin = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A line when it is done, with what came of it and how long it took; a cross when it failed."""
        begin = time.monotonic()
        status = self.console.status(escape(title)) if self.console.is_terminal else None
        step = Step(title, status)
        if status:
            status.start()
        try:
            yield step
        except BaseException:
            self._close(status)
            self._line("✘", "bold red", title, "", begin)
            raise
        self._close(status)
        self._line("✔", "green", title, step.outcome, begin)

    def note(self, text: str | Text) -> None:
        """A line below the last step."""
        self.console.print(Text("    ") + (Text(text, style="dim") if isinstance(text, str) else text), soft_wrap=True)

    def show(self, renderable: RenderableType) -> None:
        """Anything larger than a line; text is not wrapped."""
        self.console.print(renderable, soft_wrap=isinstance(renderable, str), highlight=False)

    @property
    def elapsed(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._begin)

    def _line(self, mark: str, style: str, title: str, outcome: str, begin: float) -> None:
        lasted = duration_text(timedelta(seconds=time.monotonic() - begin))
        text = Text(f"{mark} ", style=style).append(title, style="bold default")
        if outcome:
            text.append(f"  {outcome}", style="default")
        self.console.print(text.append(f"  ({lasted})", style="dim"), soft_wrap=True, highlight=False)

    @staticmethod
    def _close(status: Status | None) -> None:
        if status:
            status.stop()


class Bar:
    """The progress of one operation: a bar on a terminal, a line for each new message elsewhere."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._shown: set[str] = set()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def update(self, percent: int, message: str) -> None:
        if self._narrator.console.is_terminal:
            self._draw(percent, message)
        elif message not in self._shown:
            self._shown.add(message)
            self._narrator.note(f"{percent:>3} %  {message}")

    def close(self) -> None:
        if self._progress:
            self._progress.stop()

    def _draw(self, percent: int, message: str) -> None:
        if self._progress is None:
            columns = (TextColumn("   "), BarColumn(), TextColumn("{task.percentage:>3.0f} %  {task.description}"))
            self._progress = Progress(*columns, console=self._narrator.console)
            self._task = self._progress.add_task(message, total=100)
            self._progress.start()
        if self._task is not None:
            self._progress.update(self._task, completed=percent, description=escape(message))
