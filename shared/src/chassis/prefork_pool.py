"""Celery's pool of processes, which grows and shrinks while it runs without ending a child that works.

Stock `shrink` ends children that have not said yet that they took what they were handed, and refuses while all of them
work. Here a child that is to leave is handed nothing more, and ends once it has nothing left.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool


class Children(AsynPool):
    """The children. All of it happens on the worker's event loop."""

    # Celery's and billiard's, which their stubs leave out.
    _pool: list[Any]
    _cache: dict[int, Any]
    _processes: int
    _putlock: Any
    _all_inqueues: set[int]
    _fileno_to_inq: dict[int, Any]
    _registered_with_event_loop: bool

    _leaving: tuple[Any, ...] = ()

    @property
    def able(self) -> int:
        """How many children take work: those that are up and do not leave."""
        return len(self._all_inqueues)

    def grow(self, n: int = 1) -> None:
        """Keep n more: first those that were to leave and still work, then new ones."""
        kept = [child for child in self._leaving if not _is_told_to_end(child)][:n]
        self._leaving = tuple(child for child in self._leaving if child not in kept)
        self._all_inqueues.update(child.inqW_fd for child in kept if child.inqW_fd in self._fileno_to_inq)
        super().grow(n)
        self.maintain_pool()

    def shrink(self, n: int = 1) -> None:
        """Let n leave, those first that have nothing to do. Raises ValueError when none would be left."""
        if n >= self._processes:
            raise ValueError(f"the pool has {self._processes} processes, and one of them stays")
        self._processes -= n
        for _ in range(n if self._putlock else 0):
            self._putlock.shrink()
        staying = [child for child in self._pool if child not in self._leaving]
        # Of those with nothing to do, the ones that are not up yet go before the others.
        staying.sort(key=lambda child: (self._works(child), child.inqW_fd in self._all_inqueues))
        leaving = staying[: max(0, len(staying) - self._processes)]
        self._all_inqueues.difference_update(child.inqW_fd for child in leaving)
        self._leaving += tuple(leaving)

    def register_with_event_loop(self, hub: Any) -> None:
        if not self._registered_with_event_loop:
            hub.on_tick.add(self._end_those_who_leave)
        super().register_with_event_loop(hub)

    def on_process_alive(self, pid: int) -> None:
        """A child is up; one that is to leave is given nothing all the same."""
        super().on_process_alive(pid)
        self._all_inqueues.difference_update(child.inqW_fd for child in self._leaving if child.pid == pid)

    def _end_those_who_leave(self) -> None:
        for child in self._leaving:
            if not _is_told_to_end(child) and not self._works(child):
                child.terminate_controlled()
        if self._leaving:
            self._leaving = tuple(child for child in self._leaving if child in self._pool)

    def _works(self, child: Any) -> bool:
        """Whether it was handed anything, or is about to be, that is not done."""
        return any(
            child in (job._write_to, job._scheduled_for) or child.pid in job.worker_pids()  # noqa: SLF001 (billiard's)
            for job in self._cache.values()
        )


def _is_told_to_end(child: Any) -> bool:
    return bool(getattr(child, "_controlled_termination", False))


class TaskPool(prefork.TaskPool):
    """The pool that Celery's worker is given."""

    Pool = Children
    _pool: Children | None

    @property
    def able(self) -> int:
        """How many attempts can run at once now."""
        return self._pool.able if self._pool is not None else 0
