"""A running stack: Valkey, where it is ours, and every process of a plan."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

from chassis.embedded import EmbeddedValkey, EmbeddedValkeyError

from waybill_cli.plan import Plan, clashes, processes, worker_of
from waybill_cli.processes import Backoff, Observer, ProcessSpec, ProcessState, Stage, Status
from waybill_cli.readiness import runs
from waybill_cli.supervisor import StackError, Supervisor

# A worker gives running attempts up to this before they are handed back; see docs of the chassis' worker.
DRAIN_GRACE = timedelta(seconds=45)
START_LIMIT = timedelta(seconds=120)
# A stack that does not come up has nothing worth waiting for.
_FAILED_START_GRACE = timedelta(seconds=5)
_VALKEY_POLL_SECONDS = 0.25


class PortClashError(StackError):
    """A listener of the stack cannot be opened."""


class Stack:
    """Starts on `async with`, is ready inside it and drained after it. Belongs to the main thread."""

    def __init__(
        self,
        plan: Plan,
        *,
        observer: Observer | None = None,
        start_limit: timedelta = START_LIMIT,
        grace: timedelta = DRAIN_GRACE,
    ) -> None:
        self.plan = plan
        self._grace = grace
        self._observer = observer or Observer()
        self._start_limit = start_limit
        self._valkey = _ValkeyKeeper(plan, self._observer) if plan.redis_url is None else None
        self._supervisor: Supervisor | None = None
        # The last worker's number, by service.
        self._numbers = dict.fromkeys(plan.services, plan.workers)
        # What did not end by itself when it was drained.
        self.killed: list[Status] = []

    @property
    def statuses(self) -> list[Status]:
        """Every process with its state, Valkey first."""
        own = [self._valkey.status] if self._valkey else []
        return own + (self._supervisor.statuses if self._supervisor else [])

    @property
    def redis_url(self) -> str:
        return self._valkey.valkey.url if self._valkey else cast("str", self.plan.redis_url)

    def workers(self, service: str) -> list[Status]:
        """Its workers, those that drain left out, oldest first."""
        supervisor = self._running
        named = f"{service} worker"
        retiring = {id(status) for status in supervisor.retiring}
        return [each for each in supervisor.statuses if each.spec.name.startswith(named) and id(each) not in retiring]

    def add_worker(self, service: str) -> None:
        """Start one more; it is not waited for."""
        self._numbers[service] += 1
        self._running.add(worker_of(self.plan, self.redis_url, service, self._numbers[service]))

    def retire(self, worker: Status) -> None:
        """Drain a worker for good, however long what it runs takes."""
        self._running.retire(worker)

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise StackError("the stack has not been started")
        return self._supervisor

    async def __aenter__(self) -> Self:
        if problems := list(clashes(self.plan)):
            raise PortClashError("\n".join(problems))
        make_folder(self.plan.state_dir)
        try:
            if self._valkey:
                await self._valkey.start()
            self._supervisor = Supervisor(processes(self.plan, self.redis_url), observer=self._observer)
            await self._supervisor.start(self._start_limit)
        except BaseException:
            await self._drain(_FAILED_START_GRACE)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drain(self._grace)

    async def _drain(self, grace: timedelta) -> None:
        if self._supervisor:
            self.killed += await self._supervisor.drain(grace)
        if self._valkey:
            await self._valkey.stop()

    def kill(self) -> None:
        """End everything at once; a drain that is under way then ends soon."""
        if self._supervisor:
            self._supervisor.kill()
        if self._valkey:
            self._valkey.kill()


class _ValkeyKeeper:
    """Keeps the embedded Valkey running, on the same port, until stopped."""

    def __init__(self, plan: Plan, observer: Observer) -> None:
        durability = cast("Literal['always', 'everysec']", plan.environment.get("WAYBILL_DURABILITY") or "always")
        self.valkey = EmbeddedValkey(valkey_directory(plan.state_dir), durability=durability)
        self.status = Status(ProcessSpec("valkey", ("valkey-server",), {}, Stage.STORE, runs))
        self._observer = observer
        self._backoff = Backoff()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._show(ProcessState.STARTING)
        try:
            await asyncio.to_thread(self.valkey.start)
        except EmbeddedValkeyError as error:
            raise StackError(str(error)) from error
        self._show(ProcessState.READY)
        self._keeper = asyncio.create_task(self._keep(), name="valkey")

    async def stop(self) -> None:
        self._show(ProcessState.DRAINING)
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await asyncio.to_thread(self.valkey.stop)
        self._show(ProcessState.ENDED)

    def kill(self) -> None:
        if self._keeper:
            self._keeper.cancel()
        self.valkey.kill()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_VALKEY_POLL_SECONDS)
            if self.valkey.pid is None:
                self.status.deaths += 1
                self.status.retry_in = self._backoff.delay(self.status.deaths)
                self._show(ProcessState.RESTARTING)
                self._observer.died(self.status)
                await asyncio.sleep(self.status.retry_in.total_seconds())
                with contextlib.suppress(EmbeddedValkeyError):
                    await asyncio.to_thread(self.valkey.start)
                    self._show(ProcessState.READY)

    def _show(self, state: ProcessState) -> None:
        self.status.state = state
        self.status.pid = self.valkey.pid
        self._observer.changed(self.status)


def make_folder(path: Path) -> None:
    """The folder with its parents; raises StackError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"{path} cannot be made: {error.strerror}; set WAYBILL_STATE_DIR or --state-dir") from error


def valkey_directory(state_dir: Path) -> Path:
    """Where the embedded Valkey of a stack keeps its files."""
    return state_dir / "valkey"
