"""What every suite shares: tests say what they need, and a run ends by naming what it skipped."""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

pytest_plugins = ["chassis.testing.plugin"]


def _may_make_namespaces() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    return subprocess.run([unshare, "--net", "true"], capture_output=True, check=False).returncode == 0


# What processes of today are run beside, until a service has been released: a state of main whose scripts and contracts
# are others. A clone without git's history lacks it.
OLDER = "0c2998d70a9edd6a71a3f21e7fa6ec59756e4f6a"


def _has_history() -> bool:
    git = shutil.which("git")
    if git is None:
        return False
    asked = [git, "-C", str(Path(__file__).parent), "cat-file", "-e", f"{OLDER}^{{commit}}"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


# What `@pytest.mark.needs(...)` may name: programs, any of which will do, and a variable that
# gives an address or a path instead.
NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "chromium": (("chromium", "chromium-browser", "google-chrome"), "WAYBILL_TEST_CHROMIUM"),
    "docker": (("docker",), "WAYBILL_TEST_DOCKER"),
    "go": (("go",), "WAYBILL_TEST_GO"),
    "grpcurl": (("grpcurl",), "WAYBILL_TEST_GRPCURL"),
    # An older release, as a commit, to run beside the work tree.
    "history": (("git",) if _has_history() else (), "WAYBILL_TEST_SKEW_REF"),
    "kustomize": (("kustomize",), "WAYBILL_TEST_KUSTOMIZE"),
    "openssl": (("openssl",), "WAYBILL_TEST_OPENSSL"),
    # Root on Linux with iproute2: a user without rights finds the program and nothing else.
    "netns": (("ip",) if _may_make_namespaces() else (), "WAYBILL_TEST_NETNS"),
    "jaeger": (("jaeger", "jaeger-all-in-one"), "WAYBILL_TEST_JAEGER"),
    "node": (("node",), "WAYBILL_TEST_NODE"),
    "otelcol": (("otelcol", "otelcol-contrib"), "WAYBILL_TEST_OTELCOL"),
    "postgres": (("postgres", "pg_ctl"), "WAYBILL_TEST_POSTGRES"),
}


def infrastructure(what: str) -> str | None:
    """The address or the program by which it is reached here; None where it is missing."""
    programs, variable = NEEDS[what]
    return os.environ.get(variable) or next(filter(None, map(shutil.which, programs)), None)


def required() -> bool:
    """Whether missing infrastructure is a failure."""
    return os.environ.get("WAYBILL_REQUIRE_ALL", "") not in {"", "0"}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test that needs what is not here."""
    named = [what for mark in item.iter_markers("needs") for what in mark.args]
    if unknown := sorted(set(named) - NEEDS.keys()):
        pytest.fail(f"needs({unknown[0]!r}): not one of {', '.join(NEEDS)}", pytrace=False)
    missing = sorted({what for what in named if infrastructure(what) is None})
    if missing:
        _refuse(f"want of {', '.join(missing)}")


def _refuse(reason: str) -> None:
    if required():
        pytest.fail(f"{reason}, and WAYBILL_REQUIRE_ALL is set", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Name what was skipped and for want of what, each once, after all else."""
    yield
    skipped: Iterable[pytest.TestReport | pytest.CollectReport] = terminalreporter.stats.get("skipped", ())
    for line in sorted({_skipped(report) for report in skipped}):
        terminalreporter.write_line(line)


def _skipped(report: pytest.TestReport | pytest.CollectReport) -> str:
    what = report.nodeid.partition("[")[0]
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return f"skipped: {what} - {reason.removeprefix('Skipped: ').replace('want of', 'for want of', 1)}"
