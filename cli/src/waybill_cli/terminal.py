"""Consoles that fit what they write to."""

from __future__ import annotations

from rich.console import Console

_NO_TERMINAL_WIDTH = 500


def fitting_console() -> Console:
    """As wide as the terminal; elsewhere so wide that no line is folded."""
    console = Console()
    return console if console.is_terminal else Console(width=_NO_TERMINAL_WIDTH)
