"""Page tokens and page sizes."""

from dataclasses import dataclass

import pytest
from chassis import paging
from chassis.errors import InvalidArgument
from hypothesis import given
from hypothesis import strategies as st

PARTS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False))


@dataclass
class ListRequest:
    page_size: int = 0
    page_token: str = ""


@given(st.lists(PARTS, min_size=1, max_size=4).map(tuple))
def test_a_token_says_where_the_next_page_begins(position):
    """Any position comes back from its token as it was."""
    assert paging.decode(paging.encode(position)) == position


def test_the_empty_token_is_the_beginning():
    """The first page has no token, and the last page returns none."""
    assert paging.decode("") == ()
    assert paging.decode("", int, str) == ()
    assert paging.encode(()) == ""


@pytest.mark.parametrize("token", ["x", "!!!!", "e30", "bnVsbA", paging.encode((1,)), paging.encode((True, "a")), "é"])
def test_a_token_that_was_never_returned_is_refused(token):
    """A forged or truncated token, or one of another method, is the client's error."""
    with pytest.raises(InvalidArgument) as raised:
        paging.decode(token, int, str)

    assert [v.field for v in raised.value.violations] == ["page_token"]


@pytest.mark.parametrize(("asked", "used"), [(0, 50), (1, 1), (1_000, 1_000), (5_000, 1_000)])
def test_a_page_is_as_large_as_asked_within_the_limit(asked, used):
    """0 is the default; more than the maximum is the maximum (AIP-158)."""
    assert paging.size(asked, default=50, maximum=1_000) == used


def test_both_paging_fields_are_refused_at_once():
    """A request whose size and token are wrong says both."""
    with pytest.raises(InvalidArgument) as raised:
        paging.page(ListRequest(page_size=-1, page_token="x"), int)

    assert [v.field for v in raised.value.violations] == ["page_size", "page_token"]


def test_a_request_without_paging_fields_gets_the_first_page():
    """Defaults give the first page of the default size."""
    assert paging.page(ListRequest(), int, default=20) == (20, ())
