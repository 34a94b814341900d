"""From an accepted request to a kept report: ask, put together, render, save. Run twice, it makes one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from chassis.channels import channel_to
from chassis.logging import get_logger
from chassis.settings import load
from chassis.worker import Attempt
from waybill.reports.v1 import reports_pb2

from reports_service import assembly, incident, relations, requests, store
from reports_service.artifacts import Artifacts
from reports_service.clients import Metrics
from reports_service.documents import Document, Format, filename
from reports_service.incident import Exhibit, Incident
from reports_service.queries import Query
from reports_service.rendering import render
from reports_service.settings import ReportsSettings
from reports_service.store import Reports

log = get_logger(__name__)

# Shares of the progress, in per cent: up to FETCHED series come in, up to RENDERED the file is made.
_FETCHED, _RENDERED = 40, 95

_FORMATS = {Format.PDF: reports_pb2.REPORT_FORMAT_PDF, Format.HTML: reports_pb2.REPORT_FORMAT_HTML}


@dataclass(frozen=True, slots=True)
class Press:
    """What rendering works with."""

    metrics: Metrics
    reports: Reports
    artifacts: Artifacts
    settings: ReportsSettings

    def report(self, attempt: Attempt, request: reports_pb2.RenderReportRequest) -> reports_pb2.Report:
        """The report that the request asks for."""
        kept = self.reports.find(attempt.effect_id)
        if kept is not None:
            return kept
        spec = requests.parse(request)
        queries = assembly.queries(spec)
        attempt.progress(1, f"fetching {len(queries)} series" if queries else "")
        answers = self.metrics.answers(queries, attempt.deadline, _fetched(attempt, len(queries)))
        document = assembly.assemble(spec, answers, report_id=attempt.effect_id, created=datetime.now(UTC))
        return self._finish(attempt, document, spec.format, spec.template)

    def incident(self, attempt: Attempt, breach: Incident) -> reports_pb2.Report:
        """The report of a resolved alert, with at least two charts."""
        kept = self.reports.find(attempt.effect_id)
        if kept is not None:
            return kept
        created = datetime.now(UTC)
        attempt.progress(1, "looking for related series")
        known = self.metrics.known(relations.prefixes(breach.metric), attempt.deadline)
        source = relations.breached_series(breach, known)
        window = relations.window_of(breach, source, created)
        query = relations.breach_query(breach, source, window)
        candidates = relations.candidates(breach, source, known, window)
        breached, related = self._exhibits(attempt, query, candidates)
        document = incident.report(
            breach, breached, related, window=window, report_id=attempt.effect_id, created=created
        )
        return self._finish(attempt, document, Format.PDF, "incident", alert_id=breach.alert_id)

    def _exhibits(
        self, attempt: Attempt, query: Query, candidates: Sequence[relations.Candidate]
    ) -> tuple[Exhibit, list[Exhibit]]:
        """The breached series, and beside it the best candidates that have samples, or else its own extremes."""
        asked = [query, *(candidate.query for candidate in candidates[: relations.MAX_RELATED])]
        answers = self.metrics.samples_of(asked, attempt.deadline, _fetched(attempt, len(asked)))
        related = [
            Exhibit(candidate.title, candidate.query.metric, answer)
            for candidate, answer in zip(candidates, answers[1:], strict=False)
            if answer.has_samples
        ]
        breached = Exhibit(incident.humane(query.metric), query.metric, answers[0])
        return breached, related or [self._extremes(attempt, query)]

    def _extremes(self, attempt: Attempt, query: Query) -> Exhibit:
        asked = relations.envelope(query)
        answers = self.metrics.samples_of(list(asked.values()), attempt.deadline, lambda _: attempt.check())
        answer = relations.enveloped(dict(zip(asked, answers, strict=True)))
        title = f"{incident.humane(query.metric)}, extremes"
        return Exhibit(title, query.metric, answer, note="least, mean and greatest sample of each value's time")

    def _finish(
        self, attempt: Attempt, document: Document, form: Format, template: str, *, alert_id: str = ""
    ) -> reports_pb2.Report:
        content = render(document, form, fonts=self.settings.fonts, progress=_rendering(attempt))
        attempt.progress(_RENDERED, "saving")
        artifact = self.artifacts.write(document.report_id, form.extension, content)
        report = reports_pb2.Report(
            report_id=document.report_id,
            title=document.title,
            template_id=template,
            format=_FORMATS[form],
            media_type=form.media_type,
            filename=filename(document.title, document.created, form),
            size_bytes=artifact.size_bytes,
            sha256=artifact.sha256,
            charts=len(document.charts),
            operation=attempt.operation,
            location=artifact.location,
        )
        report.create_time.FromDatetime(document.created)
        kept = self.reports.save(attempt, report, alert_id=alert_id)
        if kept.location != artifact.location:
            self.artifacts.remove(artifact.location)
        log.info("report.rendered", report_id=kept.report_id, charts=kept.charts, size_bytes=kept.size_bytes)
        self._forget_expired(document.created)
        return kept

    def _forget_expired(self, now: datetime) -> None:
        """Apply the retention. Here, because reports take up room only where reports are made."""
        before = now - self.settings.retention
        rows, files = self.reports.delete_older(before), self.artifacts.remove_older(before)
        if rows or files:
            log.info("reports.expired", rows=rows, files=files, before=before.isoformat())


@cache
def press() -> Press:
    """This process's press; its connections open when it is first used."""
    settings = load(ReportsSettings)
    metrics = Metrics(lambda: channel_to("metrics"))
    return Press(metrics, store.reports(), Artifacts(settings.artifact_folder), settings)


def _fetched(attempt: Attempt, total: int) -> Callable[[int], None]:
    return lambda count: attempt.progress(_FETCHED * count // total, f"fetched {count} of {total} series")


def _rendering(attempt: Attempt) -> Callable[[str, int, int], None]:
    def report(what: str, step: int, steps: int) -> None:
        attempt.progress(_FETCHED + (_RENDERED - _FETCHED) * step // steps, what)

    return report
