"""A file that is read again when it has changed. One that cannot be read leaves in place what was read before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from chassis.logging import get_logger

LOOK_SECONDS: Final = 1.0

T = TypeVar("T")

log = get_logger()


class WatchedFile(Generic[T]):
    """What a file says, at most a second old. Threads may share it.

    Args:
        path: of the file; a symbolic link may be pointed elsewhere, as Kubernetes does with its secrets.
        parse: makes the value of the bytes; raises ValueError.

    Raises:
        OSError: it cannot be read, here alone.
        ValueError: it cannot be understood, here alone.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path
        #: Why what it says now is not what is in force; empty where it is.
        self.problem = ""
        self._parse = parse
        self._lock = threading.Lock()
        self._seen = self._identity()
        self._value = parse(path.read_bytes())
        self._next_look = time.monotonic() + LOOK_SECONDS

    def value(self) -> T:
        """What it says; looks at the file where the last look was a second ago."""
        if time.monotonic() >= self._next_look:
            self.look()
        return self._value

    def look(self) -> None:
        """Look now."""
        with self._lock:
            self._next_look = time.monotonic() + LOOK_SECONDS
            try:
                identity = self._identity()
                if identity == self._seen:
                    return
                self._seen = identity
                self._value = self._parse(self.path.read_bytes())
            except (OSError, ValueError) as error:
                self._keep(f"{type(error).__name__}: {error}")
            else:
                self.problem = ""
                log.info("file.reloaded", path=str(self.path))

    def _identity(self) -> tuple[int, int, int]:
        found = self.path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _keep(self, problem: str) -> None:
        if problem != self.problem:
            log.error("file.not_reloaded", path=str(self.path), error=problem, keeps="what was read before")
        self.problem = problem
