"""The processes of a stack together: all started, all ready, all drained in order, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby

from waybill_cli.processes import (
    EXIT_BAD_SETTINGS,
    Backoff,
    Observer,
    ProcessSpec,
    ProcessState,
    Status,
    SupervisedProcess,
)

# A process that dies so often before the stack has come up is not worth another start.
MAX_DEATHS_AT_START = 3
_POLL_SECONDS = 0.05


class StackError(Exception):
    """The stack did not start."""


class ProcessFailedError(StackError):
    """A process ended again and again, or refused its settings, before the stack was ready."""

    def __init__(self, status: Status) -> None:
        self.status = status
        last = "\n".join(f"  {line}" for line in status.tail)
        super().__init__(f"{status.spec.name} ended with exit code {status.exit_code}; its last words:\n{last}")


class NotReadyError(StackError):
    """Some process ran but did not become ready in time."""

    def __init__(self, statuses: Sequence[Status], limit: timedelta) -> None:
        self.statuses = statuses
        named = ", ".join(status.spec.name for status in statuses)
        super().__init__(f"not ready within {limit.total_seconds():.0f} s: {named}")


class Supervisor:
    """Runs a set of processes. Belongs to the event loop of the main thread."""

    def __init__(
        self, specs: Sequence[ProcessSpec], *, observer: Observer | None = None, backoff: Backoff | None = None
    ) -> None:
        self._observer = observer or Observer()
        self._backoff = backoff or Backoff()
        self._processes = [
            SupervisedProcess(spec, self._observer, self._backoff)
            for spec in sorted(specs, key=lambda spec: spec.stage)
        ]
        self._retiring: dict[asyncio.Task[None], Status] = {}

    @property
    def statuses(self) -> list[Status]:
        return [process.status for process in self._processes]

    @property
    def retiring(self) -> list[Status]:
        """Those that `retire` was called with and that have not ended."""
        return list(self._retiring.values())

    def add(self, spec: ProcessSpec) -> Status:
        """Start one more and keep it running; what becomes of it is told to the observer alone."""
        process = SupervisedProcess(spec, self._observer, self._backoff)
        self._processes.append(process)
        self._processes.sort(key=lambda each: each.status.spec.stage)
        process.start()
        return process.status

    def retire(self, status: Status) -> asyncio.Task[None]:
        """Drain one for good, however long it takes: nothing but the stack's own end ends it by force.

        What is returned is done when it has ended and is forgotten.
        """
        process = next(each for each in self._processes if each.status is status)
        task = asyncio.create_task(self._retire(process), name=f"retire {status.spec.name}")
        self._retiring[task] = status
        task.add_done_callback(self._retiring.pop)
        return task

    async def _retire(self, process: SupervisedProcess) -> None:
        await process.drain(None)
        self._processes.remove(process)

    async def start(self, limit: timedelta = timedelta(seconds=120)) -> None:
        """Start all; returns when every one is ready.

        Raises:
            ProcessFailedError: one refused its settings or died `MAX_DEATHS_AT_START` times.
            NotReadyError: `limit` passed.
        """
        for process in self._processes:
            process.start()
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while waiting := [s for s in self.statuses if s.state is not ProcessState.READY]:
                    self._refuse_the_hopeless(waiting)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            late = [status for status in self.statuses if status.state is not ProcessState.READY]
            raise NotReadyError(late, limit) from None

    async def drain(self, grace: timedelta) -> list[Status]:
        """End all, stage after stage, those of one stage together. Returns those that had to be killed."""
        killed: list[Status] = []
        for _, stage in groupby(tuple(self._processes), key=lambda process: process.status.spec.stage):
            members = list(stage)
            ended = await asyncio.gather(*(process.drain(grace) for process in members))
            killed += [process.status for process, by_itself in zip(members, ended, strict=True) if not by_itself]
        return killed

    def kill(self) -> None:
        """End all at once, by SIGKILL. `drain` must still be awaited."""
        for process in self._processes:
            process.kill()

    def _refuse_the_hopeless(self, waiting: Sequence[Status]) -> None:
        for process in self._processes:
            process.fail_on_error()
        for status in waiting:
            refused = status.state is ProcessState.RESTARTING and status.exit_code == EXIT_BAD_SETTINGS
            if refused or status.deaths >= MAX_DEATHS_AT_START:
                raise ProcessFailedError(status)
