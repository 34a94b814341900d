"""Tests name what they need, and a run names what it skipped."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDY = """
import pytest

@pytest.mark.needs("jaeger")
def test_that_needs_jaeger():
    pass
"""
pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the needy test with the root conftest, an empty PATH and the given environment."""
    pytester.makeconftest((ROOT / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = needs\n")
    for variable in ("WAYBILL_REQUIRE_ALL", "WAYBILL_TEST_JAEGER"):
        monkeypatch.delenv(variable, raising=False)

    def run(source=NEEDY, **environment):
        pytester.makepyfile(source)
        for name, value in {"PATH": "", **environment}.items():
            monkeypatch.setenv(name, value)
        return pytester.runpytest_subprocess("-p", "no:xdist")

    return run


def test_a_laptop_skips_and_names_what_is_missing(run):
    """Missing infrastructure is no failure by default, and never goes unsaid."""
    result = run()

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["skipped: *::test_that_needs_jaeger - for want of jaeger"])


def test_missing_infrastructure_is_a_failure_where_all_is_required(run):
    """WAYBILL_REQUIRE_ALL=1 turns the skip into a failure."""
    run(WAYBILL_REQUIRE_ALL="1").assert_outcomes(errors=1)


def test_a_variable_stands_for_a_program(run):
    """An address in the environment is as good as a program on PATH."""
    run(WAYBILL_TEST_JAEGER="localhost:16686").assert_outcomes(passed=1)


def test_an_unknown_need_is_a_failure(run):
    """A misspelt need must not pass for a met one."""
    run(NEEDY.replace('"jaeger"', '"jeager"')).assert_outcomes(errors=1)
