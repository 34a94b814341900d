"""Each service is deployed by itself, so each must install and start by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_stands_alone(service):
    """With its own dependencies and nothing else, its check passes and no other service is there."""
    if not list((ROOT / "services" / service).glob("src/*/__main__.py")):
        pytest.skip(f"want of services/{service}'s __main__.py")

    command = [sys.executable, str(ROOT / "tools" / "check_alone.py"), service]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr
