"""The import rules refuse what they are there to refuse."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"


@pytest.fixture
def reports(tmp_path):
    """A copy of every import package that stands before the installed ones; its reports_service."""
    for package in [*ROOT.glob("*/src/*"), *ROOT.glob("services/*/src/*")]:
        if (package / "__init__.py").exists():
            shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path / "reports_service"


def add(module, line):
    """A line at the end of a module, which is new where there was none."""
    with module.open("a") as file:
        file.write(f"\n{line}\n")


def lint(reports):
    path = os.pathsep.join([str(reports.parent), str(ROOT / "proto" / "gen")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [str(LINT_IMPORTS), "--no-cache"]
    linted = subprocess.run(command, cwd=reports.parent, env=environment, capture_output=True, text=True, check=False)
    return linted.returncode, " ".join(linted.stdout.split())


def test_clients_may_use_the_stubs_of_other_services(reports):
    """A service meets the others in clients."""
    add(reports / "clients.py", "import grpc\nfrom waybill.metrics.v1 import metrics_pb2")

    returncode, output = lint(reports)

    assert returncode == 0, output


@pytest.mark.parametrize(
    ("module", "line", "refusal"),
    [
        (
            "store",
            "from reports_service import tasks",
            "store is not allowed to import reports_service.tasks",
        ),
        (
            "store",
            "from reports_service import clients",
            "store is not allowed to import reports_service.clients",
        ),
        ("tasks", "import metrics_service", "reports_service is not allowed to import metrics_service"),
        (
            "gateway",
            "from waybill.metrics.v1 import metrics_pb2",
            "Illegal imports of protected package waybill.metrics: - reports_service.gateway",
        ),
        ("settings", "import redis", "settings is not allowed to import redis"),
        ("charts", "import grpc", "charts is not allowed to import grpc"),
        ("novelty", "", "The following modules are not listed as layers: - reports_service.novelty"),
    ],
)
def test_an_import_against_the_rules_is_refused(reports, module, line, refusal):
    """Upward, sideways, framework and stub imports are refused, and so is a file without a place."""
    add(reports / f"{module}.py", line)

    returncode, output = lint(reports)

    assert returncode == 1
    assert refusal in output
