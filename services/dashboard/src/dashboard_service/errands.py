"""Work that may take longer than a form waits: it goes on in a thread, and its audit entry says how it ended."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass

from dashboard_service.audit_records import Record, settled

#: So many at a time; further ones wait.
WORKERS = 4
# How long an answer waits for the end.
PATIENCE_SECONDS = 5.0

#: Steers something in chunks until all is done or it is told to stop; yields how many with each.
Errand = Callable[[threading.Event], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far several errands are together; `going_on` while one has not ended."""

    count: int
    going_on: bool


class Errands:
    """Those of one process. One that is stopped between chunks has done what its entry says."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="errand")

    def run(self, errands: Sequence[tuple[Record, Errand]]) -> Progress:
        """Start all and wait a little; raises what the first of them raised."""
        started: list[Future[None]] = [
            # With the context of whoever asks: the calls are made for that one.
            self._threads.submit(copy_context().run, self._run, record, errand)
            for record, errand in errands
        ]
        ended, running = wait(started, timeout=PATIENCE_SECONDS)
        for future in started:
            if future in ended:
                future.result()
        return Progress(sum(record.count or 0 for record, _ in errands), bool(running))

    def stop(self) -> None:
        self._stopping.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, record: Record, errand: Errand) -> None:
        with settled(record):
            record.count = 0
            for number in errand(self._stopping):
                record.count += number
            if self._stopping.is_set():
                record.message = "stopped before its end: the dashboard was told to end"
