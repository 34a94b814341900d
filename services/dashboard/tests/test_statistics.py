from datetime import timedelta

from dashboard_service import statistics
from google.rpc import code_pb2
from waybill.admin.v1 import admin_pb2
from waybill.operations.v1 import operations_pb2 as ops

from services.dashboard.tests.fake_service import a_status

SUCCEEDED, FAILED, CANCELLED = (
    ops.OPERATION_STATE_SUCCEEDED,
    ops.OPERATION_STATE_FAILED,
    ops.OPERATION_STATE_CANCELLED,
)


def a_row(start, task, state, count, mean=1.0, p95=2.0):
    row = admin_pb2.OperationStats(task=task, state=state, count=count, attempts=2 * count)
    row.start_time.FromSeconds(start)
    row.total.mean.FromTimedelta(timedelta(seconds=mean))
    row.total.p95.FromTimedelta(timedelta(seconds=p95))
    return row


def test_rows_of_tasks_and_states_become_one_sum_for_each_step():
    """Counts add up, the mean is that of all operations, and the p95 that of the slowest row."""
    rows = [
        a_row(60, "a.b", SUCCEEDED, 3, mean=1, p95=2),
        a_row(60, "c.d", FAILED, 1, mean=5, p95=9),
        a_row(120, "a.b", CANCELLED, 4),
    ]

    built = statistics.build(rows, 60, 240, 60)

    first, second, third = built.steps
    assert (first.succeeded, first.failed, first.rate, first.mean, first.p95) == (3, 1, 0.25, 2.0, 9.0)
    assert (second.ended, second.rate, second.mean, second.p95) == (4, None, None, None)
    assert third.count == 0
    assert list(built.times) == [60, 120, 180]


def test_tasks_are_told_apart_the_most_frequent_first():
    """Each with all that ended over the whole range."""
    rows = [a_row(60, "a.b", SUCCEEDED, 1), a_row(60, "c.d", SUCCEEDED, 2), a_row(120, "a.b", FAILED, 2)]

    built = statistics.build(rows, 60, 180, 60)

    assert [(task, each.count, each.failed, each.attempts) for task, each in built.tasks] == [
        ("a.b", 3, 2, 6),
        ("c.d", 2, 0, 4),
    ]
    assert built.total.count == 5


def test_what_lies_outside_is_left_out():
    """A service that answers more than it was asked for changes nothing."""
    built = statistics.build([a_row(0, "a.b", SUCCEEDED, 1)], 60, 120, 60)

    assert built.total.count == 0


def test_the_overview_shows_statistics_of_all_services(fakes, browser, reports):
    """Of the range that is chosen, in steps that suit it."""
    kept = fakes.do(reports.accept, "reports.render_report")
    fakes.do(reports.begin, kept)
    fakes.do(reports.fail, kept, a_status(code_pb2.UNKNOWN, "no", "NO"))

    page = browser.get("/?range=24h").text

    asked = next(each for each in fakes["reports"].received if isinstance(each, admin_pb2.GetOperationStatsRequest))
    assert asked.step.seconds == 600
    assert asked.end_time.seconds - asked.start_time.seconds == 86_400
    section = page[page.index('id="statistics"') :].partition("</section>")[0]
    assert "1 in 24h" in section
    assert "100.0 %" in section
    assert "reports.render_report" in section


def test_an_unknown_range_is_the_usual_one(browser):
    """The part that the page asks for again is that of the overview."""
    assert "0 in 1h" in browser.get("/statistics?range=ages").text
