"""The gateways of all services, behind tokens, with nothing that runs what they accept."""

import pytest
from chassis.testing.callers import Callers
from chassis.testing.harness import Harness, ServiceUnderTest

from tests.stack import NAMES, OTLP_METRICS

PACKAGES = {"metrics": (OTLP_METRICS,)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("closed")


@pytest.fixture(scope="module")
def callers(folder):
    return Callers.written(folder / "tokens.json")


@pytest.fixture(scope="module")
def closed(folder, callers):
    """Gateways that know one caller of each role, and one another by a token of their own."""
    environment = {"WAYBILL_TOKENS_FILE": str(callers.path), "WAYBILL_TOKEN": callers.tokens["service"]}
    services = [
        ServiceUnderTest(name, f"{name}_service", roles=("gateway",), routed_packages=PACKAGES.get(name, ()))
        for name in NAMES
    ]
    with Harness(folder, services, environment=environment) as harness:
        harness.start()
        yield harness
