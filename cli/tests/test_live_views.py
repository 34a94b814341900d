"""What moves on a terminal: bars of `watch`, the screen of `top`; and the same for programs."""

import io
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from rich.console import Console
from waybill.admin.v1 import admin_pb2
from waybill_cli import top_view
from waybill_cli.__main__ import main
from waybill_cli.activity import WINDOW, Activity
from waybill_cli.top_view import Sample
from waybill_cli.watch_views import MAX_BARS, BarWatch, change_json
from waybill_client import Change, Progress, State

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_change(kind="began", state=State.RUNNING, name="operations/reports/1", **fields):
    return Change(name, kind, state, 1, 5, fields.pop("progress", None), MOMENT, task="reports.render_report", **fields)


def a_terminal():
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=150, height=30)


def test_a_bar_moves_with_the_progress_and_gives_way_to_a_line_at_the_end():
    """State, percent and message stand beside the bar; how it ended stays on the screen."""
    console = a_terminal()
    view = BarWatch(console)

    with view.live():
        view.change(a_change("progressed", progress=Progress(40, "drawing [charts]")))
        view._progress.refresh()
        moving = console.file.getvalue()
        view.change(a_change("failed", State.FAILED, error_message="no such metric"))

    assert "RUNNING" in moving
    assert "40 %" in moving
    assert "drawing [charts]" in moving
    assert "FAILED       reports.render_report  attempt 1/5  no such metric" in console.file.getvalue()
    assert view._bars == {}


def test_bars_are_bounded():
    """Of more operations than fit, those that moved last are shown."""
    view = BarWatch(a_terminal())

    for number in range(MAX_BARS + 5):
        view.change(a_change(name=f"operations/reports/{number}"))

    assert len(view._bars) == MAX_BARS
    assert f"operations/reports/{MAX_BARS + 4}" in view._bars
    assert "operations/reports/0" not in view._bars


def test_a_change_as_json_leaves_out_what_is_not_known():
    """Progress, worker, error and cursor come when there are any."""
    bare = change_json(a_change())
    full = change_json(a_change(progress=Progress(40, "x"), worker="w", error_message="e", cursor="1-0"))

    assert bare.keys() == {"operation", "kind", "state", "task", "queue", "attempt", "max_attempts", "time"}
    assert full["progress"] == {"percent": 40, "message": "x"}
    assert {full["worker"], full["error_message"], full["cursor"]} == {"w", "e", "1-0"}


def test_activity_counts_the_last_minute_and_the_rate_of_whole_seconds():
    """The second that has not passed is no part of a rate; what is older than a minute is forgotten."""
    activity = Activity(begin=100.0)
    for second in range(4):
        for _ in range(10):
            activity.note(a_change("succeeded", State.SUCCEEDED), 100.5 + second)
    activity.note(a_change("progressed"), 103.9)

    assert activity.rate(104.2, "succeeded") == 10
    assert activity.ended(104.2) == 10
    assert activity.rate(100.9, "succeeded") == 0
    assert activity.last_minute(104.0) == {"succeeded": 40}
    assert activity.curve(104.0)[-5:] == [0, 10, 10, 10, 10]
    assert sum(activity.last_minute(104.0 + WINDOW + 1).values()) == 0


@pytest.fixture
def busy():
    queue = admin_pb2.Queue(name="reports.default", depth=12, in_flight=2, waiting=3)
    queues = [queue, *(admin_pb2.Queue(name=f"reports.q{number}") for number in range(30))]
    return Sample(MOMENT, queues, [admin_pb2.Worker(name="reports@host:7", pool="threads", concurrency=2)])


def drawn(sample, activity, now, height):
    console = Console(file=io.StringIO(), width=120)
    console.print(top_view.screen(sample, activity, now, height))
    return console.file.getvalue().splitlines()


def test_the_screen_of_top_fits_the_terminal(busy):
    """Whatever there is, no more lines than the terminal has; what is left out is counted, the busiest comes first."""
    activity = Activity(0.0)
    for number in range(100):
        activity.note(a_change("succeeded", State.SUCCEEDED, f"operations/reports/{number}"), 10.0)

    for height in (24, 40, 80):
        lines = drawn(busy, activity, 11.0, height)
        assert len(lines) <= height
    queues = [line for line in lines if line.startswith("reports.")]
    assert queues[0].startswith("reports.default")
    assert any("more" in line for line in lines)
    assert any("operations/reports/99" in line for line in lines)
    assert "100 SUCCEEDED" in lines[2]
    assert "12 QUEUED" in lines[2]


def test_top_once_is_text_without_a_terminal_and_json_lines_with_json(gateway):
    """A pipe gets one sample; services that are down are named, the exit code is 4."""

    def run(*arguments):
        return CliRunner().invoke(main, ["top", *arguments, "--gateway", gateway.address])

    text, lines = run(), run("--json", "--count", "2", "--interval", "0.2")

    assert (text.exit_code, lines.exit_code) == (4, 4)
    assert "reports.default" in text.stdout
    assert "metrics: UNAVAILABLE" in text.stdout
    first, second = (json.loads(line) for line in lines.stdout.splitlines())
    assert first["queues"][0]["name"] == "reports.default"
    assert second["workers"][0]["name"] == "reports@host:7"
    assert first["unavailable"]["metrics"]["code"] == "UNAVAILABLE"
    assert "notify" not in first["unavailable"]
