"""What the chassis's tests share."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from chassis import history
from chassis.database import open_database
from chassis.history import Archive
from chassis.testing.loops import grpc_loop


@pytest.fixture(scope="session")
def anyio_backend():
    """Tests that are coroutines, `pytest.mark.anyio`, run on asyncio."""
    return "asyncio", {"loop_factory": grpc_loop}


@pytest.fixture(scope="session")
async def one_loop(anyio_backend):
    """One event loop for all tests that serve gRPC: its completion queue outlives a loop that is closed."""
    yield  # noqa: PT022 - the loop lives as long as the fixture


@pytest.fixture
def history_engine(database_url) -> Iterator[sa.Engine]:
    """A database with an empty archive, of each kind that services run on."""
    metadata = sa.MetaData()
    history.tables(metadata)
    engine = open_database(database_url, metadata)
    yield engine
    engine.dispose()


@pytest.fixture
def archive(history_engine) -> Archive:
    """An empty archive."""
    return Archive(history_engine)
