"""The work itself: plain Python that knows no framework."""

from __future__ import annotations


def count_words(text: str) -> int:
    """How many words a text has; spaces of any kind part them."""
    return len(text.split())
