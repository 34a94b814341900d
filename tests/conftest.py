"""The services that the suites of this folder share, and what they are asked with."""

import pytest

from tests.receiver import Receiver
from tests.stack import Stack


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory):
    """Every process of every service, started once."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        running.start()
        yield running


@pytest.fixture
def stack(running_stack):
    """The running services, all of them up whatever the test before has done to them."""
    running_stack.make_whole()
    return running_stack


@pytest.fixture(scope="session")
def receiver():
    """A webhook receiver; each test takes an endpoint of its own."""
    with Receiver() as running:
        yield running
