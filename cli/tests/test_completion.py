"""The shell completes services, methods, states and options, and every command says its exit codes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from waybill_cli.__main__ import main


def completions(*words, incomplete=""):
    complete = ShellComplete(main, {}, "waybill", "_WAYBILL_COMPLETE")
    return [item.value for item in complete.get_completions(list(words), incomplete)]


@pytest.mark.parametrize(
    ("words", "incomplete", "wanted"),
    [
        (("submit",), "re", ["reports"]),
        (("submit", "reports"), "ren", ["render-report"]),
        (("submit", "nobody"), "", []),
        (("queues", "list", "--service"), "no", ["notify"]),
        (("operations", "list", "--state"), "S", ["SCHEDULED", "SUCCEEDED"]),
        (("dead-letters",), "re", ["replay"]),
        (("completion",), "", ["bash", "zsh", "fish"]),
    ],
)
def test_words_are_completed_from_the_contracts(words, incomplete, wanted):
    """No gateway is asked."""
    assert completions(*words, incomplete=incomplete) == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_for_a_shell_is_one_that_the_shell_reads(shell):
    """It parses, where the shell is there, and asks this command for words."""
    code = CliRunner().invoke(main, ["completion", shell]).stdout

    assert f"_WAYBILL_COMPLETE={shell}_complete" in code
    program = shutil.which(shell)
    if program:
        assert subprocess.run([program, "-n"], input=code, text=True, check=False).returncode == 0


def test_bash_completes_by_the_code():
    """Sourced in a real bash, the function answers with the methods of a service."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("want of bash")
    code = CliRunner().invoke(main, ["completion", "bash"]).stdout
    script = f"""PATH={Path(sys.executable).parent}:$PATH
{code}
COMP_WORDS=(waybill submit reports ren) COMP_CWORD=3
_waybill_completion waybill ren reports
echo "${{COMPREPLY[@]}}"
"""

    completed = subprocess.run([bash, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert completed.stdout.strip() == "render-report", completed.stderr


def test_help_documents_the_exit_codes():
    """Of the whole command, and of each that has its own."""
    for command in ([], ["submit"], ["operations", "wait"], ["queues", "pause"], ["top"]):
        assert "Exit codes: 0 done" in CliRunner().invoke(main, [*command, "--help"]).stdout
