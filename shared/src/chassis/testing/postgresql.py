"""A PostgreSQL for tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving() -> Iterator[str]:
    """URL of the server that WAYBILL_TEST_POSTGRES names, or of one of our own, on a Unix socket alone."""
    if given := os.environ.get("WAYBILL_TEST_POSTGRES", ""):  # noqa: TID251 (of tests alone)
        yield given
        return
    # PostgreSQL refuses to run as root; the folder must be reachable by whom it runs as.
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="waybill-postgres-"))
    if user:
        shutil.chown(folder, user)
    data = str(folder / "data")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    _run(["initdb", "-D", data, "-A", "trust", "-N"], user, folder)
    _run(["pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start"], user, folder)
    try:
        yield f"postgresql://{user or pwd.getpwuid(os.getuid()).pw_name}@/postgres?host={folder}"
    finally:
        _run(["pg_ctl", "-D", data, "-m", "fast", "-w", "stop"], user, folder)
        shutil.rmtree(folder)


def _run(command: Sequence[str], user: str | None, folder: Path) -> None:
    subprocess.run(command, user=user, check=True, capture_output=True, cwd=folder)
