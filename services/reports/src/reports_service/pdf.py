"""PDF: the layout set by typst with the template `report.typ`, charts as vector graphics.

All text reaches typst as data, never as markup. The typefaces are those that typst and vl-convert
bring along; `fonts` names a folder of more, for scripts that these lack.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from chassis.errors import PermanentError

from reports_service.documents import Document
from reports_service.layout import lay_out


def typeset(document: Document, drawings: Sequence[str], fonts: Path | None = None) -> bytes:
    """The document as PDF; `drawings` has the SVG of each of its charts. The same input gives the same bytes."""
    import typst  # noqa: PLC0415 - only the process that renders loads it

    pictures = [f"chart-{i}" for i in range(len(drawings))]
    data = {
        "document": lay_out(document, pictures),
        "pictures": dict(zip(pictures, map(_as_pdf, drawings), strict=True)),
    }
    try:
        return typst.compile(
            _template(),
            font_paths=_fonts(fonts),
            ignore_system_fonts=True,
            format="pdf",
            sys_inputs={"data": json.dumps(data)},
            timestamp=int(document.created.timestamp()),
        )
    except typst.TypstError as error:
        raise PermanentError(f"the page cannot be set: {error.message}", reason="RENDERING_FAILED") from error


def _as_pdf(drawing: str) -> list[int]:
    """An SVG as the bytes of a PDF image: its text is set in the typeface that it was measured in."""
    import vl_convert  # noqa: PLC0415 - as above

    return list(vl_convert.svg_to_pdf(drawing))


@cache
def _template() -> bytes:
    return files(__package__).joinpath("report.typ").read_bytes()


@cache
def _fonts(folder: Path | None) -> Any:
    import typst  # noqa: PLC0415 - as above

    return typst.Fonts(include_system_fonts=False, font_paths=[folder] if folder else [])
