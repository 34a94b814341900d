"""docs/security.md does what it says: its table is the contracts', and its commands close a stack."""

import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from chassis.roles import rule_of
from chassis.testing import contracts
from chassis.testing.harness import Harness, ServiceUnderTest

from tests.stack import NAMES, OTLP_METRICS

DOCUMENT = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
AUTHORITY, TOKENS, START, ASK, REVOKE = COMMANDS


def who(rule):
    if rule.anonymous:
        return {"anybody"}
    return set(rule.roles) or {"whoever is authenticated"}


def test_the_table_is_what_the_contracts_say():
    """Every method, once, with the roles that may call it."""
    rows = re.findall(r"^\| `([a-z]\w*\.[\w.]+)` \| (`.*`) \| ([\w, ]+) \|$", DOCUMENT, re.MULTILINE)
    documented = [
        (f"{service}/{method}", set(roles.split(", ")))
        for service, methods, roles in rows
        for method in re.findall(r"`(\w+)`", methods)
    ]

    assert len(documented) == len(dict(documented))
    assert dict(documented) == {name: who(rule_of(name)) for name in contracts.methods()}


class Closed(Harness):
    """Asked over TLS."""

    def channel(self, service):
        if service not in self._channels:
            credentials = grpc.ssl_channel_credentials((self.directory / "ca.pem").read_bytes())
            self._channels[service] = grpc.secure_channel(self.addresses[service], credentials)
        return self._channels[service]


def shell(folder, commands, **variables):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYBILL_")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={**kept, "PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.needs("openssl")
def test_the_commands_close_a_stack_and_let_in_whom_they_name(tmp_path):
    """As written: an authority, tokens, listeners on every interface; then the command with a token, and without."""
    made = shell(tmp_path, AUTHORITY + TOKENS)
    assert made.returncode == 0, made.stderr
    assert "ada" in made.stdout
    assert all((tmp_path / f"{name}.token").stat().st_mode & 0o077 == 0 for name in ("services", "ada", "ci"))
    exported = shell(tmp_path, START.replace("waybill up", "env"), WAYBILL_TOKENS_FILE=str(tmp_path / "tokens.json"))
    environment = dict(re.findall(r"^(WAYBILL_\w+)=(.*)$", exported.stdout, re.MULTILINE))
    assert set(environment) == {
        "WAYBILL_TOKENS_FILE",
        "WAYBILL_TOKEN_FILE",
        *(f"WAYBILL_TLS_{name}_FILE" for name in ("CERT", "KEY", "CA")),
    }
    services = [
        ServiceUnderTest(
            name,
            f"{name}_service",
            roles=("gateway",),
            routed_packages=(OTLP_METRICS,) if name == "metrics" else (),
        )
        for name in NAMES
    ]
    with Closed(tmp_path, services, environment=environment) as harness:
        harness._given |= {
            f"{name.upper()}_LISTEN": address.replace("127.0.0.1", "0.0.0.0")
            for name, address in harness.addresses.items()
        }
        harness.start()
        ask = ASK.replace("localhost:50051", harness.addresses["metrics"].replace("127.0.0.1", "localhost"))

        answered = shell(tmp_path, ask)
        refused = shell(tmp_path, ask.replace("--token-file ada.token", ""))
        denied = shell(tmp_path, ask.replace("ada.token", "ci.token"))
        revoked = shell(tmp_path, REVOKE, WAYBILL_TOKENS_FILE=environment["WAYBILL_TOKENS_FILE"])

    assert answered.returncode == 0, answered.stderr
    # Through the gateway of metrics, with its own credentials, at the other two.
    assert all(queue in answered.stdout for queue in ("metrics.", "notify.", "reports."))
    assert "CREDENTIALS_MISSING" in refused.stderr
    assert "ROLE_MISSING" in denied.stderr
    assert revoked.stdout == "1 revoked\n"
