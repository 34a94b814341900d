import base64

import pytest
from chassis.errors import InvalidArgument
from dashboard_service import cursors
from hypothesis import given
from hypothesis import strategies as st


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=6))
def test_what_was_encoded_is_decoded(positions):
    """An event's id gives back every service's cursor, whatever characters it has."""
    assert cursors.decode(cursors.encode(positions)) == positions


@given(st.dictionaries(st.sampled_from(["metrics", "notify", "reports"]), st.text(max_size=40)))
def test_an_id_fits_into_a_header(positions):
    """An id has no line break, no space and no character outside of ASCII."""
    assert all(
        character.isascii() and (character.isalnum() or character in "-_") for character in cursors.encode(positions)
    )


@pytest.mark.parametrize(
    "text", ["%%%", "abc", base64.b64encode(b"[1]").decode(), base64.b64encode(b'{"a": 1}').decode()]
)
def test_a_text_that_is_no_id_is_refused_by_name(text):
    """A position that this dashboard did not give out is an error, not a guess."""
    with pytest.raises(InvalidArgument) as refused:
        cursors.decode(text, "Last-Event-ID")

    assert [violation.field for violation in refused.value.violations] == ["Last-Event-ID"]
