"""pytest plugin: a real Valkey for tests, and the logs of processes under test when one fails.

Registered by the root conftest.py. What it starts, it starts at the first use, once for each process of pytest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from chassis.embedded import EmbeddedValkey
    from chassis.store import Store
    from chassis.testing.harness import Harness, ServiceUnderTest


def pytest_configure() -> None:
    """WAYBILL_TEST_REDIS_SERVER names the server that tests start in the place of the packaged Valkey."""
    program = os.environ.get("WAYBILL_TEST_REDIS_SERVER")  # noqa: TID251 (the tests', not a service's)
    if program:
        from chassis.embedded import EmbeddedValkey  # noqa: PLC0415 (most tests need none)

        EmbeddedValkey.program = Path(program)


@pytest.fixture(scope="session")
def valkey_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """One embedded Valkey for the session; tests ask for `valkey`, which is empty."""
    from chassis.embedded import EmbeddedValkey  # noqa: PLC0415 (most tests need none)

    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    yield server.start()
    server.kill()


@pytest.fixture
def valkey(valkey_process: EmbeddedValkey) -> EmbeddedValkey:
    """A real Valkey, empty, as durable as by default; running again should the last test have ended it."""
    import redis  # noqa: PLC0415

    valkey_process.start()
    with redis.Redis.from_url(valkey_process.url) as client:
        client.flushall()
    return valkey_process


@pytest.fixture
def store(valkey: EmbeddedValkey) -> Iterator[Store]:
    """The operation store of a service named `test`, empty."""
    from chassis.store import Store  # noqa: PLC0415

    connected = Store.connect("test", valkey.url)
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of one PostgreSQL for the session; tests ask for `postgresql_url` or `database_url`."""
    from chassis.testing.postgresql import serving  # noqa: PLC0415

    with serving() as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """URL of an empty database; tests that ask for it are marked `needs("postgres")`."""
    from chassis.testing.postgresql import database  # noqa: PLC0415

    with database(postgresql_server) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, of each kind that services run on."""
    sqlite = f"sqlite:///{tmp_path / 'service.db'}"
    return sqlite if request.param == "sqlite" else str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def harness(tmp_path: Any) -> Iterator[Callable[..., Harness]]:
    """`harness([ServiceUnderTest(...)], environment={...})`: real processes, ended with the test.

    For processes that several tests share, enter `chassis.testing.harness.Harness` in a fixture of a wider scope.
    """
    from chassis.testing.harness import Harness  # noqa: PLC0415

    entered: list[Harness] = []

    def enter(services: Sequence[ServiceUnderTest], **options: Any) -> Harness:
        entered.append(Harness(tmp_path / f"harness-{len(entered)}", services, **options).__enter__())
        return entered[-1]

    yield enter
    for one in reversed(entered):
        one.__exit__(None, None, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows the end of the log of every process that runs for a test."""
    report = yield
    module = sys.modules.get("chassis.testing.harness")
    if report.failed and module is not None:
        for one in list(module.running):
            report.sections += [(f"log of {name}", tail) for name, tail in one.logs()]
    return report
