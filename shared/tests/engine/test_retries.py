"""The retry decision: a pure function of what is known, with full jitter."""

from datetime import timedelta

import pytest
from chassis.retries import Fail, Failure, Retry, RetryPolicy, decide
from hypothesis import given
from hypothesis import strategies as st

SECOND = timedelta(seconds=1)
POLICY = RetryPolicy(max_attempts=5, min_backoff=SECOND, max_backoff=10 * SECOND, factor=3.0)
TRANSIENT = Failure(transient=True, reason="BUSY")
PERMANENT = Failure(transient=False, reason="WRONG")

durations = st.timedeltas(timedelta(microseconds=1), timedelta(days=30))


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "failure", "jitter", "decision"),
    [
        (1, 5, TRANSIENT, 0.0, Retry(timedelta(0))),
        (1, 5, TRANSIENT, 0.5, Retry(0.5 * SECOND)),
        (2, 5, TRANSIENT, 0.5, Retry(1.5 * SECOND)),
        (3, 5, TRANSIENT, 0.5, Retry(4.5 * SECOND)),
        (4, 5, TRANSIENT, 0.5, Retry(5 * SECOND)),
        (5, 5, TRANSIENT, 0.5, Fail("BUSY")),
        (6, 5, TRANSIENT, 0.5, Fail("BUSY")),
        (1, 1, TRANSIENT, 0.5, Fail("BUSY")),
        (1, 5, PERMANENT, 0.5, Fail("WRONG")),
        (1, 5, Failure(transient=True, reason="R", retry_after=3 * SECOND), 0.5, Retry(3 * SECOND)),
        (4, 5, Failure(transient=True, reason="R", retry_after=3 * SECOND), 0.5, Retry(5 * SECOND)),
        (1, 5, Failure(transient=True, reason="R", retry_after=60 * SECOND), 0.5, Retry(60 * SECOND)),
        (1, 5, Failure(transient=False, reason="R", retry_after=3 * SECOND), 0.5, Fail("R")),
        (5, 5, Failure(transient=True, reason="R", retry_after=3 * SECOND), 0.5, Fail("R")),
    ],
)
def test_the_decision_table(attempt, max_attempts, failure, jitter, decision):
    """Permanent errors and the last attempt end it; what the other side asked for is the shortest wait."""
    assert decide(attempt, max_attempts, POLICY, failure, jitter=jitter) == decision


@given(
    attempt=st.integers(1, 200),
    max_attempts=st.integers(1, 100),
    bounds=st.tuples(durations, durations),
    factor=st.floats(1, 100),
    jitter=st.floats(0, 1, exclude_max=True),
    retry_after=st.none() | durations,
)
def test_a_wait_is_within_its_bounds(attempt, max_attempts, bounds, factor, jitter, retry_after):
    """Never negative, never above the policy's maximum unless the other side asked for more, for any policy."""
    policy = RetryPolicy(100, min(bounds), max(bounds), factor)
    decision = decide(
        attempt, max_attempts, policy, Failure(transient=True, reason="R", retry_after=retry_after), jitter=jitter
    )

    if attempt >= max_attempts:
        assert decision == Fail("R")
        return
    asked = retry_after or timedelta(0)
    assert asked <= decision.delay <= max(asked, policy.max_backoff)


@given(st.integers(1, 300), durations, durations, st.floats(1, 1000))
def test_the_ceiling_grows_to_the_maximum(attempt, a, b, factor):
    """From min_backoff, never down, never above max_backoff, without overflow."""
    policy = RetryPolicy(5, min(a, b), max(a, b), factor)

    assert policy.ceiling(1) == policy.min_backoff
    assert policy.ceiling(attempt) <= policy.ceiling(attempt + 1) <= policy.max_backoff


def test_waits_are_spread_over_the_whole_range():
    """Full jitter: not all clients come back at once, nor after the same least wait."""
    delays = [decide(3, 5, POLICY, TRANSIENT).delay for _ in range(400)]

    assert min(delays) < SECOND
    assert max(delays) > 8 * SECOND
    assert len(set(delays)) > 300


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 101},
        {"min_backoff": timedelta(0)},
        {"min_backoff": 2 * SECOND, "max_backoff": SECOND},
        {"factor": 0.9},
    ],
)
def test_a_policy_that_cannot_be_is_refused_where_it_is_written(wrong):
    """At import, not at the first failure."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)
