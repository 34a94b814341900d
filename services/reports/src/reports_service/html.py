"""HTML: one file with everything in it, light and dark, that prints well. All text is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from reports_service.documents import Document
from reports_service.layout import lay_out
from reports_service.themes import SCREEN

_SIZE = re.compile(r"<svg\b([^>]*?)\swidth=\"[^\"]*\"\sheight=\"[^\"]*\"")


def typeset(document: Document, drawings: Sequence[str]) -> bytes:
    """The document as a page; `drawings` has the SVG of each of its charts."""
    described = lay_out(document, [""] * len(drawings), SCREEN)
    charts = [section for section in described["sections"] if section["kind"] == "chart"]
    for section, drawing in zip(charts, drawings, strict=True):
        section["picture"] = _inline(drawing, section["description"])
    return _template().render(described).encode()


def _inline(drawing: str, description: str) -> Markup:
    """A drawing of ours, whose texts vl-convert has escaped, scaled to its place and with a name for readers."""
    opening = Markup('<svg role="img" aria-label="{}" class="chart"').format(description)
    return Markup(_SIZE.sub(lambda found: opening + Markup(found[1]), drawing, count=1))  # noqa: S704


@cache
def _template() -> Template:
    loader = PackageLoader("reports_service", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.get_template("report.html.j2")
