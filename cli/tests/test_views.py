"""Logs and states of a stack are readable by people, and by programs with --json."""

import io
import json
from datetime import timedelta

import pytest
from rich.console import Console
from waybill_cli import logs
from waybill_cli.processes import ProcessSpec, ProcessState, Stage, Status
from waybill_cli.readiness import runs
from waybill_cli.views import JsonView, LineView, death_text, exit_text

RECORD = {
    "time": "2026-01-02T03:04:05.678901Z",
    "level": "warning",
    "event": "attempt.failed",
    "service": "reports",
    "process": "worker",
    "attempt": 2,
    "error": "no such metric",
}


def a_status(**changes):
    status = Status(ProcessSpec("reports worker", (), {}, Stage.WORKER, runs))
    for name, value in changes.items():
        setattr(status, name, value)
    return status


def test_a_record_becomes_one_readable_line():
    """Prefix, clock, level, event and fields; what the prefix tells is left out; text with spaces is quoted."""
    line = logs.rendered("reports worker", json.dumps(RECORD)).plain

    assert line.startswith("reports worker     ")
    assert line.endswith('.678 warning attempt.failed attempt=2 error="no such metric"')
    assert "service=" not in line


@pytest.mark.parametrize("text", ["Traceback (most recent call last):", "[1, 2]", "{broken", "", '"text"'])
def test_what_is_no_record_comes_as_it_is(text):
    """A traceback or a warning of the interpreter is not swallowed."""
    assert logs.rendered("reports worker", text).plain == f"{'reports worker':<18} {text}"


def test_an_exception_shows_its_innermost_frames():
    """The line says where and what, without the whole stack."""
    frames = [{"filename": f"file{n}.py", "lineno": n, "name": "f"} for n in range(5)]
    record = {**RECORD, "exception": [{"exc_type": "ValueError", "exc_value": "bad", "frames": frames}]}

    shown = logs.rendered("reports worker", json.dumps(record)).plain

    assert "file4.py:4 in f" in shown
    assert "file1.py" not in shown
    assert shown.endswith("ValueError: bad")


def test_a_process_keeps_its_colour():
    """Lines of one process are told from those of another by colour."""
    assert logs.colour_of("notify worker") == logs.colour_of("notify worker")
    assert logs.colour_of("notify worker") != logs.colour_of("notify gateway")


def test_a_death_says_how_and_when_the_next_start_is():
    """One line for a single death."""
    status = a_status(deaths=1, exit_code=-9, retry_in=timedelta(seconds=0.5))

    assert death_text(status) == "was ended by SIGKILL; started again in 0.5 s"


def test_a_crash_loop_is_called_so_and_shows_the_last_words():
    """Deaths in a row are told from a single one."""
    status = a_status(deaths=4, exit_code=1, retry_in=timedelta(seconds=4))
    status.tail.append("ModuleNotFoundError: no module named x")

    text = death_text(status)

    assert text.startswith("CRASH LOOP: 4 deaths in a row, the last: ended with exit code 1; started again in 4 s")
    assert text.endswith("\n    ModuleNotFoundError: no module named x")


def test_an_exit_is_told_in_words():
    """Codes of signals are named."""
    assert exit_text(3) == "ended with exit code 3"
    assert exit_text(-15) == "was ended by SIGTERM"
    assert exit_text(-99) == "was ended by signal 99"


def test_lines_say_when_a_process_is_ready():
    """Without a terminal every process that came up is one line."""
    out = io.StringIO()
    view = LineView(Console(file=out, width=40))

    view.changed(a_status(state=ProcessState.STARTING, pid=7))
    view.changed(a_status(state=ProcessState.READY, pid=7))

    assert out.getvalue() == "reports worker     ready, pid 7\n"


def test_json_view_passes_records_through_and_wraps_the_rest():
    """Every line is a JSON object; a service's own is untouched."""
    out = io.StringIO()
    view = JsonView(out)

    view.line(a_status(), json.dumps(RECORD))
    view.line(a_status(), "Segmentation fault")
    view.died(a_status(deaths=2, exit_code=-11, retry_in=timedelta(seconds=1)))

    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert first == RECORD
    assert second["event"] == "process.output"
    assert second["text"] == "Segmentation fault"
    assert (third["event"], third["process"], third["exit_code"]) == ("process.died", "reports worker", -11)
