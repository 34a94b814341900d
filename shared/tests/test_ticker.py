"""Ticks lie where every scheduler finds them."""

from datetime import UTC, datetime, timedelta

import pytest
from chassis.ticker import EPOCH, tick_before
from hypothesis import given
from hypothesis import strategies as st

MOMENTS = st.integers(0, 7_258_118_400_000_000).map(lambda us: EPOCH + timedelta(microseconds=us))
INTERVALS = st.integers(1, 10_000_000).map(lambda seconds: timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("every", "tick"),
    [
        (timedelta(seconds=5), datetime(2026, 3, 1, 12, 34, 55, tzinfo=UTC)),
        (timedelta(minutes=1), datetime(2026, 3, 1, 12, 34, tzinfo=UTC)),
        (timedelta(days=1), datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_tick_is_a_whole_multiple_of_the_interval(every, tick):
    """Midnight, the minute, the fifth second: counted from 1970 in UTC."""
    assert tick_before(datetime(2026, 3, 1, 12, 34, 57, 891, tzinfo=UTC), every) == tick


@given(MOMENTS, INTERVALS)
def test_the_last_tick_is_less_than_an_interval_ago(moment, every):
    """Wherever a scheduler starts, it finds the tick that the others are at."""
    tick = tick_before(moment, every)

    assert tick <= moment < tick + every
    assert tick_before(tick, every) == tick
