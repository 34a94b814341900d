"""How much a worker takes in: by what it finished lately, and by what tasks are known to cost."""

from chassis.intake import MAX_PREFETCH, PREFETCH_SECONDS, Costs, Flow
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.floats(0, 10), max_size=600), st.integers(1, 64))
def test_prefetch_is_bounded_by_measured_work(moments, slots):
    """The pool's slots, and at most what was finished within the last tenth of a second."""
    flow = Flow()
    for moment in sorted(moments):
        flow.finished(moment)
    now = max(moments, default=0)

    recent = sum(now - moment <= PREFETCH_SECONDS for moment in moments)
    assert slots <= flow.limit(slots, now) <= slots + min(recent, MAX_PREFETCH)
    assert flow.limit(slots, now + 1) == slots


@given(st.lists(st.floats(0.0001, 100), min_size=4))
def test_a_cost_is_never_below_what_the_last_run_took_by_much(runs):
    """A longer run counts at once; shorter ones bring it down an eighth of the way each."""
    costs, highest = Costs(), 0.0
    for seconds in runs:
        costs.ran("t", seconds)
        highest = max(seconds, highest + (seconds - highest) / 8)

    known = costs.known()["t"].total_seconds()
    assert known >= runs[-1] - 1e-6
    assert known <= max(runs) + 1e-6
