"""The services that the suites of this folder share, and what they are asked with."""

import pytest
from chassis.testing.failover import ReplicatedValkey

from tests import failovers
from tests.receiver import Receiver
from tests.stack import Stack


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory, pytestconfig):
    """Every process of every service, started once; with WAYBILL_TEST_SENTINEL=1 their store is behind Sentinels."""
    folder = tmp_path_factory.mktemp("stack")
    if not failovers.ASKED_FOR:
        with Stack(folder) as running:
            running.start()
            yield running
        return
    with ReplicatedValkey(folder / "replicated") as servers:
        client = failovers.Failovers(servers)
        with Stack(folder, failovers.ENVIRONMENT, servers, client) as running:
            running.start()
            yield running
        pytestconfig.stash[failovers.FORCED] = client.count


def pytest_terminal_summary(terminalreporter, config):
    """A run behind Sentinels says how many failovers it has seen: one that forced none proves nothing."""
    if failovers.ASKED_FOR:
        terminalreporter.write_line(f"failovers forced: {config.stash.get(failovers.FORCED, 0)}")


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
