"""A pool of threads that grows and shrinks while it runs.

Celery's own pool of threads stands on an executor of the standard library, whose threads can be neither added reliably
(before Python 3.12 it counts threads as idle that are not) nor taken away.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from celery.concurrency.base import BasePool, apply_target

from chassis.logging import get_logger

log = get_logger(__name__)

Work = Callable[[], object]


class TaskPool(BasePool):
    """Runs what it is given in order, `limit` at a time. With `control pool_grow` and `pool_shrink`."""

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: None makes the thread that gets it look whether it is one too many.
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._add_threads()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> None:
        """Time limits and the like are for pools of processes."""
        self._work.put(lambda: apply_target(target, args, kwargs, callback, accept_callback))

    def grow(self, n: int = 1) -> None:
        self._set_limit(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """End n threads, each after what it runs now. Raises ValueError when none would be left."""
        if n >= self.limit:
            raise ValueError(f"the pool has {self.limit} threads, and one of them stays")
        self._set_limit(self.limit - n)

    def on_stop(self) -> None:
        """Wait for what runs; what no thread has taken is dropped."""
        try:
            while True:
                self._work.get_nowait()
        except queue.Empty:
            pass
        threads = tuple(self._threads)
        self._set_limit(0)
        for thread in threads:
            thread.join()

    def _set_limit(self, limit: int) -> None:
        with self._lock:
            self.limit = limit
        self._add_threads()
        for _ in range(len(self._threads) - limit):
            self._work.put(None)

    def _add_threads(self) -> None:
        with self._lock:
            for _ in range(self.limit - len(self._threads)):
                thread = threading.Thread(target=self._run, name="slot", daemon=True)
                self._threads.add(thread)
                thread.start()

    def _run(self) -> None:
        while not self._is_one_too_many():
            work = self._work.get()
            if work is None:
                continue
            try:
                work()
            except Exception:  # a slot outlives what was run in it
                log.exception("slot.broken")
            del work

    def _is_one_too_many(self) -> bool:
        with self._lock:
            if len(self._threads) <= self.limit:
                return False
            self._threads.discard(threading.current_thread())
            return True

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc]
        return {**info, "max-concurrency": self.limit, "threads": len(self._threads)}
