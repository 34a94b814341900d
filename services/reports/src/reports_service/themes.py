"""How charts look: on paper and on a screen."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito (2008), https://jfly.uni-koeln.de/color/, without yellow, which white paper swallows.
# With the second row of dashes every line is told apart in print without colour, too.
_PAPER_LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#4D4D4D")
_DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (5, 3))


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours and type of a chart; any CSS colour, a variable included, where the output is for a browser."""

    lines: tuple[str, ...]
    muted: str
    grid: str
    alarm: str
    font: str


# Liberation Sans is what vl-convert brings along, so that text is measured with what it is drawn with.
PAPER = Theme(_PAPER_LINES, "#5B6770", "#E4E7EB", "#B42318", "Liberation Sans")
SCREEN = Theme(
    tuple(f"var(--line-{i})" for i in range(len(_PAPER_LINES))),
    "var(--muted)",
    "var(--grid)",
    "var(--bad)",
    "system-ui, 'Segoe UI', 'Liberation Sans', Helvetica, Arial, sans-serif",
)


def style_of(index: int, theme: Theme) -> tuple[str, tuple[int, ...]]:
    """Colour and dashes of a chart's line, counted from 0."""
    rounds, place = divmod(index, len(theme.lines))
    return theme.lines[place], _DASHES[rounds % len(_DASHES)]
