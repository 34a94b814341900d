"""The filter language: what is printed reads back to the same, and what cannot be read is bad input with its place."""

import pytest
from chassis.errors import InvalidArgument
from chassis.filters import EVERYTHING, MAX_CHARACTERS, MAX_DEPTH, MAX_TERMS, And, Comparison, Not, Or, Search, read
from hypothesis import example, given
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
INSTANTS = st.integers(-(10**15), 4 * 10**15).map(str)
FIELDS = st.sampled_from(
    ["task", "queue", "request_id", "trace_id", "parent", "error", "labels.team", "labels.on.call"]
)
COMPARISONS = st.one_of(
    st.builds(Comparison, FIELDS, st.sampled_from(["=", ":"]), TEXT),
    st.builds(Comparison, FIELDS, st.just(":*"), st.just("")),
    st.builds(Comparison, st.just("state"), st.just("="), st.integers(1, 8).map(str)),
    st.builds(
        Comparison, st.sampled_from(["create_time", "end_time"]), st.sampled_from(["=", "<", "<=", ">", ">="]), INSTANTS
    ),
    st.builds(Search, TEXT),
)


def joined(kind, parts):
    """Joined by the same word, once."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,))]
    return kind(tuple(flat))


EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: joined(And, parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: joined(Or, parts)),
    ),
    max_leaves=8,
)


def refusal(text):
    with pytest.raises(InvalidArgument) as raised:
        read(text)
    (violation,) = raised.value.violations
    assert violation.field == "filter"
    return violation.description


@given(EXPRESSIONS)
def test_what_is_printed_reads_back_to_the_same(expression):
    """Whatever stands in the texts."""
    assert read(str(expression)) == expression


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [
                    "(",
                    ")",
                    '"',
                    "\\",
                    "AND",
                    "OR",
                    "NOT",
                    "-",
                    ":",
                    "=",
                    "!=",
                    "<",
                    "*",
                    " ",
                    "task",
                    "state",
                    "labels.",
                    "a",
                ]
            ),
            max_size=30,
        ).map("".join),
        st.text(max_size=20).map("create_time < {}".format),
    )
)
@example("create_time < 0001-01-01T00:00:00+23:59")
@example("create_time < 2026-01-01T00:00:00+99:99")
def test_any_text_is_read_or_is_bad_input(text):
    """Nothing else is raised; what is read prints as something that is read."""
    try:
        expression = read(text)
    except InvalidArgument:
        return
    assert read(str(expression)) == expression


def test_or_binds_tighter_than_and_as_in_aip_160():
    """What stands side by side is joined by AND; parentheses say otherwise."""
    a, b, c = Search("a"), Search("b"), Search("c")

    assert read("a AND b OR c") == read("a b OR c") == And((a, Or((b, c))))
    assert read("(a AND b) OR c") == Or((And((a, b)), c))
    assert read("a AND (b AND c)") == And((a, b, c))
    assert read("-a OR NOT (b c)") == Or((Not(a), Not(And((b, c)))))
    assert read(" ") == read("") == EVERYTHING


def test_values_are_read_as_they_are_written():
    """Bare or quoted; states with or without prefix; instants in any offset; quotes and backslashes escaped."""
    assert read("task=reports.render_report") == Comparison("task", "=", "reports.render_report")
    assert read('task : "a \\"b\\" \\\\ c\\d"') == Comparison("task", ":", 'a "b" \\ c\\d')
    assert read("state = failed") == read("state:OPERATION_STATE_FAILED") == Comparison("state", "=", "6")
    assert read("state != FAILED") == read("NOT state=FAILED") == read("-state = FAILED")
    assert read("end_time >= 1970-01-01T02:00:00.000001+02:00") == Comparison("end_time", ">=", "1")
    assert read("labels:team") == read("labels.team:*") == Comparison("labels.team", ":*", "")
    assert read('error:"*"') == Comparison("error", ":", "*")
    assert read('"AND" and') == And((Search("AND"), Search("and")))


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("state =", 8, "expected a value, found the end"),
        ("= FAILED", 1, "expected a comparison or a word"),
        ("state = NONE", 9, "'NONE' is not a state; there are SCHEDULED"),
        ("state < FAILED", 1, "takes =, != and :"),
        ("task = a AND colour = red", 14, "'colour' is not a field of operations; known: state, task"),
        ("task = a AND", 13, "found the end"),
        ("AND task = a", 1, "found 'AND task = a'"),
        ("a OR", 5, "found the end"),
        ("NOT", 4, "found the end"),
        ('task = "a', 8, "a quote that is not closed"),
        ("labels = a", 1, "labels.<key>"),
        ("labels. = a", 9, "found '= a'"),
        ("labels.Team = a", 1, "'Team' is not the key of a label"),
        ("task < a", 1, "task is a text"),
        ("create_time:2026-01-01", 1, "create_time takes"),
        ("create_time > yesterday", 15, "RFC 3339"),
        ("create_time > 2026-01-01T00:00:00", 15, "RFC 3339"),
        ("create_time > 2026-02-30T00:00:00Z", 15, "not an instant of the calendar"),
        ("(a", 3, "a closing parenthesis"),
        ("a)", 2, "expected AND, OR or the end"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text, position, words):
    """Counted in characters from 1."""
    description = refusal(text)

    assert description.startswith(f"at position {position}: ")
    assert words in description


def test_length_depth_and_number_are_bounded():
    """At the bound it is read; beyond it is refused."""
    for text in ("a" * MAX_CHARACTERS, "(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH, "a " * MAX_TERMS):
        assert read(text)

    assert "characters" in refusal("a" * (MAX_CHARACTERS + 1))
    assert "deep" in refusal("-" * (MAX_DEPTH + 1) + "a")
    assert "comparisons" in refusal("a " * (MAX_TERMS + 1))
