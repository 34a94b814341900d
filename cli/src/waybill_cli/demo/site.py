"""Where a demo happens: a folder of its own and a stack on free ports, cut off from the settings around it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chassis.embedded import LOOPBACK, free_port

from waybill_cli.client import OPEN, Access
from waybill_cli.plan import Plan, make_plan
from waybill_cli.processes import Observer, Status
from waybill_cli.stack import make_folder

# Whom the story needs. Services that are installed beside these stay out of it.
SERVICES = ("metrics", "notify", "reports")
_LISTENERS = (*SERVICES, "dashboard", "traces")
# Variables that would make the demo's stack another one than it says.
_FOREIGN = ("WAYBILL_", "METRICS_", "NOTIFY_", "REPORTS_", "DASHBOARD_", "OTEL_")
# Folders of earlier runs that are kept.
_KEPT_RUNS = 4


@dataclass(frozen=True, slots=True)
class Site:
    """What the story needs to know of where it is told."""

    gateway: str
    # None: no trace receiver is to be had.
    traces: str | None
    # Where notify puts mail; None: not known here.
    maildir: Path | None
    # Takes the report, and what the demo writes itself.
    folder: Path
    environment: Mapping[str, str]
    # Of its listeners.
    access: Access = OPEN

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.folder / "logs"


def maildir_of(plan: Plan) -> Path:
    """Where the notify of that stack puts mail, by its default."""
    return plan.state_dir / "notify" / "Maildir"


def own_plan(environment: Mapping[str, str], folder: Path) -> Plan:
    """The story's stack in that folder on ports that are free now."""
    ports: set[int] = set()
    while len(ports) < len(_LISTENERS):
        ports.add(free_port())
    listen = {name: f"{LOOPBACK}:{port}" for name, port in zip(_LISTENERS, ports, strict=True)}
    return make_plan(undisturbed(environment), folder / "state", only=SERVICES, listen=listen)


def undisturbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without Waybill's and OpenTelemetry's settings."""
    return {name: value for name, value in environment.items() if not name.startswith(_FOREIGN)}


def new_folder(state_dir: Path, now: datetime) -> Path:
    """A folder for this run, `waybill-demo/<time>`; of earlier ones the last few are kept. Raises StackError."""
    root = state_dir / "waybill-demo"
    earlier = sorted(path for path in root.glob("20*") if path.is_dir()) if root.is_dir() else []
    for path in earlier[:-_KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)
    folder = root / now.strftime("%Y%m%d-%H%M%S-%f")
    make_folder(folder / "logs")
    return folder


class LogFiles(Observer):
    """What each process of the stack writes, in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def line(self, status: Status, text: str) -> None:
        with log_file(self._folder, status.spec.name).open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")


def log_file(folder: Path, process: str) -> Path:
    """Where LogFiles puts the lines of a process."""
    return folder / f"{process.replace(' ', '-')}.log"
