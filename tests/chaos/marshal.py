"""Where attempts report that they run, and wait to be let go: a test's signals in both directions."""

import socket
import threading
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Arrival:
    """An attempt that has begun and waits, in the process that runs it."""

    operation: str
    attempt: int
    pid: int


class Marshal:
    """Listens on loopback. What has arrived waits until it is let go, or all are."""

    def __init__(self):
        self._socket = socket.create_server((LOOPBACK, 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._changed = threading.Condition()
        self._waiting: dict[Arrival, socket.socket] = {}
        self._seen: list[Arrival] = []
        self._open = False
        threading.Thread(target=self._accept, name="marshal", daemon=True).start()

    def arrived(self, operation, attempt=None, timeout=WAIT_SECONDS):
        """The first arrival of this operation, of this attempt where one is named. Raises TimeoutError."""
        return self.wait_for(
            lambda seen: next((a for a in seen if a.operation == operation and attempt in {None, a.attempt}), None),
            f"{operation}, attempt {attempt or 'any'}",
            timeout,
        )

    def has_arrived(self, operation, attempt):
        """Whether this attempt has, by now."""
        with self._changed:
            return any((arrival.operation, arrival.attempt) == (operation, attempt) for arrival in self._seen)

    def wait_for(self, found, what, timeout=WAIT_SECONDS):
        """The first true value of `found(arrivals so far)`. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: found(self._seen), timeout):
                raise TimeoutError(f"{what}: not within {timeout} s; there arrived {self._seen[-10:]}")
            return found(self._seen)

    def let_go(self, *arrivals):
        """Let these finish."""
        with self._changed:
            for arrival in arrivals:
                _release(self._waiting.pop(arrival, None))

    def open(self):
        """Let all go that wait, and whoever comes from now on."""
        with self._changed:
            self._open = True
            self.let_go(*list(self._waiting))

    def close(self):
        """Hold whoever comes from now on."""
        with self._changed:
            self._open = False

    def end(self):
        self.open()
        self._socket.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _receive(self, connection):
        try:
            operation, attempt, pid = connection.makefile().readline().split()
        except (OSError, ValueError):
            return
        arrival = Arrival(operation, int(attempt), int(pid))
        with self._changed:
            self._seen.append(arrival)
            self._waiting[arrival] = connection
            if self._open:
                self.let_go(arrival)
            self._changed.notify_all()


def _release(connection):
    if connection is None:
        return
    try:
        connection.sendall(b"!")
    except OSError:
        return  # its process was killed
    finally:
        connection.close()
