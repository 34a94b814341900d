"""A valid request and the answers to its queries, put together as a document."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reports_service.documents import Chart, Document, Section, Status, Tone, utc
from reports_service.queries import Answer, Query
from reports_service.requests import ChartSpec, ReportSpec

_KICKERS = {"standard": "Report", "incident": "Incident report"}


def queries(spec: ReportSpec) -> tuple[Query, ...]:
    """What is to be asked: one query per chart, in the order of the charts."""
    return tuple(section.query for section in spec.sections if isinstance(section, ChartSpec))


def assemble(spec: ReportSpec, answers: Sequence[Answer], *, report_id: str, created: datetime) -> Document:
    """The document; `answers` has one per query, in their order."""
    left = iter(answers)
    sections: list[Section] = [
        _chart(section, next(left)) if isinstance(section, ChartSpec) else section for section in spec.sections
    ]
    return Document(
        report_id=report_id,
        kicker=_KICKERS[spec.template],
        title=spec.title,
        subtitle=spec.subtitle,
        created=created,
        status=_status(spec),
        facts=spec.facts,
        sections=tuple(sections),
    )


def _status(spec: ReportSpec) -> Status | None:
    """The incident template is set under a red band that says which stretch of time it is about."""
    if spec.template != "incident":
        return None
    during = f"{utc(spec.window.start)} to {utc(spec.window.end)}" if spec.window else ""
    return Status(Tone.BAD, "Incident", during)


def _chart(section: ChartSpec, answer: Answer) -> Chart:
    return Chart(
        title=section.title,
        metric=section.query.metric,
        series=answer.series,
        window=section.query.window,
        step=answer.step,
        threshold=section.threshold,
        axis_title=section.axis_title,
        omitted=answer.omitted,
    )
