"""The work, without a framework."""

import pytest
from seedling_service import processing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("   ", 0),
        ("one", 1),
        ("to be or\nnot\tto be", 6),
    ],
)
def test_words_are_what_spaces_part(text, words):
    """Spaces of any kind, and none of them is a word."""
    assert processing.count_words(text) == words
