"""What the chassis's tests share."""

import pytest


@pytest.fixture
def anyio_backend():
    """Tests that are coroutines, `pytest.mark.anyio`, run on asyncio."""
    return "asyncio"
