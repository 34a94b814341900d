from dashboard_service.trace_store import TraceStore
from hypothesis import given
from hypothesis import strategies as st

SPANS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=200)


@given(SPANS, st.integers(1, 30), st.integers(1, 6))
def test_neither_bound_is_ever_exceeded(arrivals, max_spans, max_traces):
    """Whatever arrives, the store holds at most so many spans and so many traces, and counts them right."""
    store = TraceStore(max_spans, max_traces)
    for trace, span in arrivals:
        store.add(str(trace), str(span), b"x")

        assert store.spans <= max_spans
        assert store.traces <= max_traces
        assert store.spans == sum(len(list(store.get(str(each)))) for each in range(13))


@given(SPANS)
def test_a_span_counts_once_and_the_first_one_stays(arrivals):
    """A span that an exporter sends again changes nothing."""
    store = TraceStore(1_000, 1_000)
    first: dict[tuple[int, int], int] = {}
    for number, (trace, span) in enumerate(arrivals):
        added = store.add(str(trace), str(span), str(number).encode())

        assert added == ((trace, span) not in first)
        first.setdefault((trace, span), number)

    for trace in {trace for trace, _ in first}:
        kept = {int(each) for each in store.get(str(trace))}
        assert kept == {number for (owner, _), number in first.items() if owner == trace}


def test_the_oldest_trace_goes_first():
    """The trace whose first span arrived longest ago is dropped, whole, although it still grows."""
    store = TraceStore(max_spans=100, max_traces=2)
    store.add("old", "1", b"")
    store.add("young", "1", b"")
    store.add("old", "2", b"")

    store.add("youngest", "1", b"")

    assert list(store.get("old")) == []
    assert [len(list(store.get(each))) for each in ("young", "youngest")] == [1, 1]
    assert store.dropped_traces == 1


def test_a_watcher_is_shown_each_further_span_once():
    """A watcher sees what comes after it began, no repeat, nothing of other traces and nothing after it stopped."""
    store = TraceStore(100, 100)
    store.add("a", "1", b"before")
    seen: list[bytes] = []
    stop = store.watch("a", seen.append)

    store.add("a", "2", b"two")
    store.add("a", "2", b"two again")
    store.add("b", "1", b"other")
    stop()
    store.add("a", "3", b"late")

    assert seen == [b"two"]


def test_watchers_that_stop_in_any_order_leave_nothing_behind():
    """Two watchers of one trace end independently."""
    store = TraceStore(100, 100)
    first, second = store.watch("a", lambda _: None), store.watch("a", lambda _: None)

    first()
    second()

    assert store._watchers == {}
