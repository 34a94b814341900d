from datetime import UTC, datetime, timedelta

from dashboard_service import timeline
from google.rpc import status_pb2
from waybill.operations.v1 import operations_pb2 as ops

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def seconds(number):
    return NOON + timedelta(seconds=number)


def an_operation(*attempts, ended=None):
    """Accepted at noon; each attempt is (begin, end or None, outcome) in seconds after it."""
    metadata = ops.OperationMetadata()
    metadata.create_time.FromDatetime(NOON)
    for number, (begin, end, outcome) in enumerate(attempts, start=1):
        attempt = metadata.attempts.add(number=number, outcome=outcome, worker="w")
        attempt.begin_time.FromDatetime(seconds(begin))
        if end is not None:
            attempt.end_time.FromDatetime(seconds(end))
    if ended is not None:
        metadata.end_time.FromDatetime(seconds(ended))
    return metadata


def test_attempts_stand_on_one_scale_from_acceptance_to_the_end():
    """A bar's place says when its attempt ran, its wait how long nothing did."""
    metadata = an_operation((2, 4, ops.ATTEMPT_OUTCOME_RETRIED), (8, 10, ops.ATTEMPT_OUTCOME_SUCCEEDED), ended=10)

    first, second = timeline.build(metadata, seconds(500)).bars

    assert (first.left, first.right, first.waited) == (20.0, 40.0, timedelta(seconds=2))
    assert (second.left, second.right, second.waited) == (80.0, 100.0, timedelta(seconds=4))
    assert [bar.outcome for bar in (first, second)] == ["RETRIED", "SUCCEEDED"]


def test_a_running_attempt_reaches_until_now():
    """What has not ended grows with the clock."""
    running = timeline.build(an_operation((1, None, 0)), seconds(4)).bars[0]

    assert (running.outcome, running.right, running.duration, running.end) == (
        "RUNNING",
        100.0,
        timedelta(seconds=3),
        None,
    )


def test_a_clock_that_lags_makes_no_bar_leave_the_line():
    """A gateway's clock ahead of this machine's gives bars between 0 and 100."""
    bar = timeline.build(an_operation((5, 6, ops.ATTEMPT_OUTCOME_LOST)), seconds(1)).bars[0]

    assert 0 <= bar.left <= bar.right <= 100


def test_an_attempts_error_is_kept():
    """The error of each attempt is shown with it."""
    metadata = an_operation((1, 2, ops.ATTEMPT_OUTCOME_FAILED), ended=2)
    metadata.attempts[0].error.CopyFrom(status_pb2.Status(code=14, message="gone"))

    assert timeline.build(metadata, NOON).bars[0].error.message == "gone"


def test_without_a_time_of_acceptance_there_is_no_line():
    """A gateway that says nothing of times breaks no page."""
    assert timeline.build(ops.OperationMetadata(), NOON) is None
