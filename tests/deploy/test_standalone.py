"""What an image installs is what the lock says, hash by hash."""

import importlib.util
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

LOCK = """\
# Written by hand.
kombu==5.7.0 \\
    --hash=sha256:aaaa \\
    --hash=sha256:bbbb
redis==7.0.0 ; python_full_version < '3.12' \\
    --hash=sha256:cccc
redis==8.1.0 ; python_full_version >= '3.12' \\
    --hash=sha256:dddd
typing-extensions==4.15.0 \\
    --hash=sha256:eeee
"""


@pytest.fixture
def standalone(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("standalone", TOOLS / "standalone.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "standalone", module)
    spec.loader.exec_module(module)
    return module


def test_a_pin_keeps_the_hashes_of_the_lock(standalone):
    """The hashes are those that were locked, not those that a registry has now."""
    pinned = standalone.pins(LOCK, ["kombu"])

    assert pinned.split() == ["kombu==5.7.0", "\\", "--hash=sha256:aaaa", "\\", "--hash=sha256:bbbb"]


def test_a_package_with_a_version_for_each_python_keeps_them_all(standalone):
    """The markers of a universal lock choose at installation."""
    pinned = standalone.pins(LOCK, ["redis"])

    assert "redis==7.0.0 ; python_full_version < '3.12'" in pinned
    assert "redis==8.1.0 ; python_full_version >= '3.12'" in pinned
    assert "kombu" not in pinned


def test_a_package_that_is_not_locked_is_refused(standalone):
    """Nothing unlocked is installed in silence."""
    with pytest.raises(LookupError, match="left-pad"):
        standalone.pins(LOCK, ["kombu", "left-pad"])


def test_a_service_that_is_not_there_is_refused(standalone):
    """The message names the folder that was looked for."""
    with pytest.raises(standalone.UnknownServiceError, match="services/nowhere"):
        standalone.service_named("nowhere")


def test_an_environment_of_one_service_leaves_out_what_the_others_need(standalone):
    """The typesetter of reports is no part of metrics, although both are in one lock."""
    local = standalone.read_all()

    metrics, reports = (
        set(map(standalone.requirement_name, standalone.third_party(standalone.closure(name, local), local)))
        for name in ("waybill-metrics", "waybill-reports")
    )

    assert "typst" in reports
    assert "typst" not in metrics
