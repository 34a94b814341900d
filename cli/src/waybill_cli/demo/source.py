"""The process that exports this machine's metrics and makes the load, seen from the demo."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from chassis.tether import tethered

from waybill_cli.client import OPEN, Access
from waybill_cli.processes import kill_group

_END_SECONDS = 10.0
# Deprecated ones, which disturb the readings of those that replace them, and one that needs privileges.
EXCLUDED_METRICS = "OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS"
EXCLUDED = "process.runtime.*,system.network.connections"


class SourceError(Exception):
    """The process that exports metrics has ended."""


def exporter_environment(access: Access) -> dict[str, str]:
    """As OpenTelemetry's exporters take them: the files of TLS, and the token as a header."""
    files = (
        {
            "CERTIFICATE": access.tls.ca_file,
            "CLIENT_CERTIFICATE": access.tls.cert_file,
            "CLIENT_KEY": access.tls.key_file,
        }
        if access.tls
        else {}
    )
    given = {f"OTEL_EXPORTER_OTLP_{name}": str(path) for name, path in files.items() if path}
    bearer = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(f'Bearer {access.token}')}"} if access.token else {}
    return {**given, **bearer}


class MetricSource:
    """Runs `waybill_cli.demo.probe` on `async with`."""

    def __init__(self, gateway: str, log: Path, environment: Mapping[str, str], access: Access = OPEN) -> None:
        self._endpoint = f"{'https' if access.tls else 'http'}://{gateway}"
        self._log = log
        self._environment = {**environment, EXCLUDED_METRICS: EXCLUDED, **exporter_environment(access)}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        command = (sys.executable, "-m", "waybill_cli.demo.probe", self._endpoint)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(command, os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.close()
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                kill_group(self._process.pid)
                await self._process.wait()

    def check(self) -> None:
        """Raise SourceError when it has ended."""
        if self._process is None or self._process.returncode is not None:
            raise SourceError(f"the source of metrics has ended; see {self._log}")

    async def load(self, processor: int | None) -> None:
        """Begin to keep that processor busy, or all of them."""
        await self._ask("load all" if processor is None else f"load {processor}")

    async def rest(self) -> None:
        """End the load."""
        await self._ask("rest")

    async def _ask(self, command: str) -> None:
        self.check()
        process = self._process
        if process and process.stdin and process.stdout:
            with suppress(ConnectionError):
                process.stdin.write(f"{command}\n".encode())
                await process.stdin.drain()
            if not await process.stdout.readline():
                await process.wait()
        self.check()
