"""A PostgreSQL for tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url


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


@contextmanager
def database(server: str) -> Iterator[str]:
    """URL of a database of that server, new and empty, which is dropped whoever is still connected."""
    url, name = make_url(server), f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


def _run(command: Sequence[str], user: str | None, folder: Path) -> None:
    subprocess.run(command, user=user, check=True, capture_output=True, cwd=folder)
