"""The client programs of examples/, in three languages, against real services: each does and says the same."""

import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waybill_client.connection import service_config

from conftest import infrastructure, required

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
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

    def run(address):
        done = subprocess.run(
            [*command, address],
            cwd=folder,
            env={**os.environ, **environment},
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


def test_the_service_config_is_that_of_the_client():
    """One policy: what waybill-client repeats, a client with this file repeats; it calls all addresses in turn."""
    config = json.loads((EXAMPLES / "service_config.json").read_text(encoding="utf-8"))

    assert config.pop("loadBalancingConfig") == [{"round_robin": {}}]
    assert config == json.loads(service_config())
