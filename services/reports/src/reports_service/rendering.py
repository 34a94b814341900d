"""A document as a file. Pure: the same document, format and fonts give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reports_service import charts, html, pdf, themes
from reports_service.documents import Document, Format

Progress = Callable[[str, int, int], None]


def render(document: Document, form: Format, *, fonts: Path | None = None, progress: Progress) -> bytes:
    """Draw the charts, then set the page.

    `progress` hears what begins, which step of how many it is: the charts one by one, then the page.
    """
    if fonts:
        charts.use_fonts(fonts)
    theme = themes.PAPER if form is Format.PDF else themes.SCREEN
    steps = len(document.charts) + 1
    drawings = []
    for i, chart in enumerate(document.charts):
        progress(f"drawing chart {i + 1} of {steps - 1}", i, steps)
        drawings.append(charts.svg(charts.vega_lite(chart, theme)))
    progress("typesetting", steps - 1, steps)
    if form is Format.PDF:
        return pdf.typeset(document, drawings, fonts)
    return html.typeset(document, drawings)
