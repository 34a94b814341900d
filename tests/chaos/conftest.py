"""Seeds, and an arena for each pool that an experiment asks for."""

import os
import random
import secrets

import pytest

from tests.chaos.arena import Arena

#: Set for the processes of pytest-xdist too, which run a share of the experiments each.
SEED = os.environ.setdefault("WAYBILL_CHAOS_SEED", str(secrets.randbits(32)))


@pytest.fixture
def rng(request, record_property):
    """Random by the seed and the test's name. WAYBILL_CHAOS_SEED repeats a run."""
    print(f"WAYBILL_CHAOS_SEED={SEED}")
    record_property("WAYBILL_CHAOS_SEED", SEED)
    return random.Random(f"{SEED} {request.node.nodeid}")


@pytest.fixture(scope="session")
def arenas(tmp_path_factory):
    """Pool to the arena that runs."""
    running = {}

    def of_pool(pool):
        if pool in running and not running[pool].sound:
            running.pop(pool).__exit__(None, None, None)
        if pool not in running:
            running[pool] = Arena(tmp_path_factory.mktemp(f"chaos-{pool}"), pool).__enter__()
        return running[pool]

    yield of_pool
    for one in running.values():
        one.__exit__(None, None, None)


@pytest.fixture
def arena(request, arenas, rng):
    """The chaos service in the pool that the test is parametrised with, all of it up."""
    found = arenas(request.param)
    found.begin(rng)
    return found


def pytest_report_header():
    return f"WAYBILL_CHAOS_SEED={SEED}"
