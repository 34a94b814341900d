"""What the chassis's tests share."""

import pytest
from chassis.testing.loops import grpc_loop


@pytest.fixture(scope="session")
def anyio_backend():
    """Tests that are coroutines, `pytest.mark.anyio`, run on asyncio."""
    return "asyncio", {"loop_factory": grpc_loop}


@pytest.fixture(scope="session")
async def one_loop(anyio_backend):
    """One event loop for all tests that serve gRPC: its completion queue outlives a loop that is closed."""
    yield  # noqa: PT022 - the loop lives as long as the fixture
