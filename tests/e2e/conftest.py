"""WAYBILL_TEST_SENTINEL=1: a failover in each test of this suite, and nothing that was accepted is lost by any."""

import pytest

from tests import failovers


@pytest.fixture(autouse=True)
def failover(request):
    """The primary is killed when the test's first operation is accepted, unless it brings an outage of its own."""
    if not failovers.ASKED_FOR or "running_stack" not in request.fixturenames:
        yield
        return
    running = request.getfixturevalue("running_stack")
    running.make_whole()
    if request.node.get_closest_marker("own_outage"):
        yield
        return
    with running.client.one_at_the_first_acceptance():
        yield
    running.make_whole()
    for name in running.client.accepted:
        running.get(name)
