"""A filter matches the same operations in the store, in SQLite and in PostgreSQL."""

import random
from datetime import timedelta

import pytest
from chassis import archive_pages, history
from chassis.archive_calls import Unarchived
from chassis.facts import facts_of, matches
from chassis.filters import And, Comparison, Not, Or, Search, may_match, read
from chassis.history import Selection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waybill.store.v1 import store_pb2

KEEP = str(timedelta(days=30) // timedelta(microseconds=1)).encode()
#: Few, so that filters match often; with case, other scripts, and what SQL or its patterns could take for its own.
TEXTS = ["", "a", "A", "Tök", "TÖK", "a%b_c", "it's \\", "\x1f", "a\0b", "timeout: Redis", "\u017f", "\u0130", "\u212a"]
REASONS = ["", "DISK_FULL", "timeout"]
KEYS = ["team", "on.call"]
NOW = history.now_us()
INSTANTS = [NOW - seconds * 1_000_000 for seconds in range(5)]


def an_operation(number, choose):
    """A hash as the store has it at the end."""
    record = store_pb2.OperationRecord(
        id=f"00000000-0000-7000-8000-{number:012x}",
        request_id=choose.choice(TEXTS),
        parent=choose.choice(["", "operations/test/1"]),
        labels={key: choose.choice(TEXTS) for key in KEYS if choose.random() < 0.5},
    )
    state = choose.choice([5, 5, 6, 7, 8])
    error = {b"ec": b"14", b"em": choose.choice(TEXTS).encode(), b"er": choose.choice(REASONS).encode()}
    created = choose.choice(INSTANTS)
    stored = {
        b"rec": record.SerializeToString(),
        b"task": choose.choice(["test.do", "test.Other", "tök"]).encode(),
        b"q": choose.choice(["bulk", "Default"]).encode(),
        b"st": str(state).encode(),
        b"ct": str(created).encode(),
        b"et": str(created + choose.choice([0, 1_000_000])).encode(),
        b"ks": KEEP,
        b"kf": KEEP,
        b"tr": f"{choose.choice(['0', '1']) * 32}/b7ad6b7169203331".encode(),
        # A success keeps the error of the attempt before.
        **(error if state != 5 or choose.random() < 0.3 else {}),
    }
    return Unarchived(record.id, stored)


OPERATIONS = [an_operation(number, random.Random(number)) for number in range(60)]

PLAIN = [text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in TEXTS]
VALUES = st.sampled_from([*PLAIN, *REASONS, "test.do", "TEST", "bulk", "0" * 32, "operations/test/1", "it", "ö"])
FIELDS = st.sampled_from(
    ["task", "queue", "request_id", "trace_id", "parent", "error", *(f"labels.{key}" for key in KEYS)]
)
COMPARISONS = st.one_of(
    st.builds(Comparison, FIELDS, st.sampled_from(["=", ":"]), VALUES),
    st.builds(Comparison, FIELDS, st.just(":*"), st.just("")),
    st.builds(Comparison, st.just("state"), st.just("="), st.integers(1, 8).map(str)),
    st.builds(
        Comparison,
        st.sampled_from(["create_time", "end_time"]),
        st.sampled_from(["=", "<", "<=", ">", ">="]),
        st.sampled_from(INSTANTS).map(str),
    ),
    st.builds(Comparison, st.sampled_from(["create_time", "end_time"]), st.just(":*"), st.just("")),
    st.builds(Search, VALUES),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=6,
)


def archived(archive, selection, limit=7):
    """The ids of all pages, newest first."""
    after, found = None, []
    while True:
        page = archive.page("ops", selection, after=after, until=None, limit=limit)
        found += [position[1] for position, _ in page.found]
        if page.end is None:
            return found
        after = page.end


def live(expression):
    """The ids of those that match as the store has them."""
    return {item.operation_id for item in OPERATIONS if matches(expression, facts_of(item.stored))}


@given(EXPRESSIONS)
def test_what_matches_in_some_state_may_match_in_it(expression):
    """Or a list would leave out what the archive has."""
    for state in {facts_of(item.stored).state for item in OPERATIONS if matches(expression, facts_of(item.stored))}:
        assert may_match(expression, state)


@pytest.fixture
def filled(archive, monkeypatch):
    """An archive with operations of all kinds, of which one read looks at a few."""
    monkeypatch.setattr(archive_pages, "WINDOW", 11)
    archive.keep(OPERATIONS)
    return archive


def test_the_archive_and_the_store_choose_alike(filled):
    """Whatever the filter says: everything that matches, once, newest first, through windows and pages."""

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(EXPRESSIONS)
    def choose(expression):
        found = archived(filled, Selection(expression))
        assert len(found) == len(set(found))
        assert set(found) == live(expression)

    choose()


def test_search_looks_through_texts_and_labels(filled):
    """Task, request_id, error, keys and values of labels; letters of ASCII in either case."""
    for word in ("TEST.DO", "timeout: redis", "disk_full", "on.CALL", "a%B"):
        expected = live(read(f'"{word}"'))
        assert expected
        assert set(archived(filled, Selection(read(f'"{word}"')))) == expected


def test_what_matches_nothing_ends_in_bounded_steps(filled):
    """Each read looks at a window and says where it stopped."""
    steps, after = 0, None
    while steps == 0 or after is not None:
        page = filled.page("ops", Selection(read("nowhere-at-all")), after=after, until=None, limit=7)
        steps, after = steps + 1, page.end
        assert not page.found

    assert steps == len(OPERATIONS) // 11 + 1


def test_a_selective_condition_saves_the_steps(filled):
    """An index that leads past what is wanted alone is walked to its end at once."""
    for text in ("request_id = nobody", "parent = nobody", "labels.team = nobody", "state = QUEUED", "task = none a"):
        page = filled.page("ops", Selection(read(text)), after=None, until=None, limit=7)
        assert (list(page.found), page.end) == ([], None)
