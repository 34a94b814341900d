"""The client programs of examples/, in three languages, against real services: each does and says the same."""

import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from chassis.testing.callers import Callers
from chassis.testing.harness import Harness, ServiceUnderTest
from waybill_client.connection import service_config

from conftest import infrastructure, required

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CERTIFICATES = ROOT / "shared/tests/certificates"
STEPS = "accepted began succeeded"
#: What a program prints, whichever language it is in.
SAID = re.compile(
    r"refused (?P<code>\w+) INVALID_REQUEST sections title\n"
    r"accepted (?P<name>operations/reports/[0-9a-f-]{36})\n"
    r"again the same\n"
    r"succeeded \S+\.pdf \d+\n"
    r"followed (?P<followed>.*)\nresumed (?P<resumed>.*)\n"
)
BUILD_SECONDS = 500

pytestmark = [pytest.mark.own_outage, pytest.mark.slow]


def prepared(command, folder, **environment):
    """Build what a program needs. A laptop without a package registry skips; anything else that fails is a failure."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    said = f"{' '.join(map(str, command))}:\n{done.stderr[-2000:]}"
    if required() or not re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|dial tcp|no such host", done.stderr):
        pytest.fail(said, pytrace=False)
    pytest.skip("want of a package registry")


@pytest.fixture
def googleapis():
    """Where google/rpc/*.proto lie."""
    return str(Path(str(importlib.resources.files("google.rpc") / "status.proto")).parents[2])


@pytest.fixture
def python():
    return [sys.executable, "report.py"], EXAMPLES / "python", {}


@pytest.fixture
def node(googleapis):
    folder = EXAMPLES / "node"
    prepared([shutil.which("npm") or "npm", "install", "--no-package-lock", "--no-audit", "--no-fund"], folder)
    return [infrastructure("node"), "report.js"], folder, {"GOOGLEAPIS": googleapis}


@pytest.fixture
def go(googleapis, tmp_path):
    folder, program = EXAMPLES / "go", tmp_path / "report"
    prepared(["sh", "generate.sh"], folder, GOOGLEAPIS=googleapis, PYTHON=sys.executable)
    prepared([infrastructure("go"), "vet", "."], folder)
    prepared([infrastructure("go"), "build", "-o", str(program), "."], folder)
    return [str(program)], folder, {}


@pytest.fixture(
    params=[
        "python",
        pytest.param("node", marks=pytest.mark.needs("node")),
        pytest.param("go", marks=pytest.mark.needs("go")),
    ]
)
def program(request):
    """Runs the program against an address; what it printed."""
    command, folder, environment = request.getfixturevalue(request.param)

    def run(address, **access):
        done = subprocess.run(
            [*command, address],
            cwd=folder,
            env={**os.environ, **environment, **access},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.timeout(BUILD_SECONDS)
@pytest.mark.parametrize("through", ["reports", "notify"])
def test_a_program_submits_waits_and_follows(stack, program, through):
    """Every violation of a bad request; one operation for one request_id; its end; its events, also from a cursor."""
    said = program(stack.addresses[through])

    told = SAID.fullmatch(said)
    assert told, said
    assert told["code"].replace("_", "").upper() == "INVALIDARGUMENT"
    assert told["followed"] == told["resumed"]
    steps = [step for step in told["followed"].split() if step != "progressed"]
    assert " ".join(steps) == STEPS
    operation, _ = stack.get(told["name"])
    assert operation.HasField("response")


class Closed(Harness):
    """Asked over TLS, by a viewer."""

    def channel(self, service):
        if service not in self._channels:
            tls = grpc.ssl_channel_credentials((CERTIFICATES / "ca.pem").read_bytes())
            self._channels[service] = grpc.secure_channel(self.addresses[service], tls)
        return self._channels[service]


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """reports, behind TLS and tokens; and the file with a submitter's token."""
    folder = tmp_path_factory.mktemp("closed")
    callers = Callers.written(folder / "tokens.json")
    (folder / "submitter.token").write_text(callers.tokens["submitter"])
    files = {"CERT": "reports.pem", "KEY": "reports.key", "CA": "ca.pem"}
    environment = {
        **{f"WAYBILL_TLS_{name}_FILE": str(CERTIFICATES / file) for name, file in files.items()},
        "WAYBILL_TOKENS_FILE": str(callers.path),
        "WAYBILL_TOKEN": callers.tokens["service"],
    }
    with Closed(folder, [ServiceUnderTest("reports", "reports_service")], environment=environment) as harness:
        harness.start()
        yield harness.addresses["reports"], folder / "submitter.token"


@pytest.mark.timeout(BUILD_SECONDS)
def test_a_program_is_let_in_by_its_token(closed, program):
    """Where it is given the authority and a token; it sends the token over TLS alone."""
    address, token = closed

    said = program(address, WAYBILL_TLS_CA_FILE=str(CERTIFICATES / "ca.pem"), WAYBILL_TOKEN_FILE=str(token))

    assert SAID.fullmatch(said), said


def test_the_service_config_is_that_of_the_client():
    """One policy: what waybill-client repeats, a client with this file repeats; it calls all addresses in turn."""
    config = json.loads((EXAMPLES / "service_config.json").read_text(encoding="utf-8"))

    assert config.pop("loadBalancingConfig") == [{"round_robin": {}}]
    assert config == json.loads(service_config())
