"""The incident pipeline, step by step: from the first sample to the mailed report and its trace."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from waybill.events.v1 import events_pb2
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from waybill.notify.v1 import notify_pb2
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc
from waybill.traces.v1 import traces_pb2
from waybill_client import WaybillError, aio

from waybill_cli import trace_tree
from waybill_cli.client import CALL_TIMEOUT, TraceReceiver
from waybill_cli.demo import incident, load, mail, setup
from waybill_cli.demo.feed import Feed, OperationFailedError
from waybill_cli.demo.incident import Baseline, Breach
from waybill_cli.demo.narrator import Bar, Narrator, Step
from waybill_cli.demo.site import SERVICES, Site
from waybill_cli.demo.source import MetricSource, SourceError
from waybill_cli.failures import call_text

BASELINE_SAMPLES = 10
# So long at least, that the report's charts have something to show.
LOAD_SECONDS = 20.0
_TIMEOUT = CALL_TIMEOUT.total_seconds()
_POLL_SECONDS = 0.5


class StepFailedError(Exception):
    """A step of the demo did not come; names the processes whose logs tell why."""

    def __init__(self, step: str, why: str, involved: Sequence[str]) -> None:
        self.step = step
        self.involved = involved
        super().__init__(f"{step}: {why}")


class Story:
    """One run."""

    def __init__(self, site: Site, gateway: aio.Client, feed: Feed, source: MetricSource, narrator: Narrator) -> None:
        self._site = site
        self._gateway = gateway
        self._feed = feed
        self._source = source
        self._narrator = narrator
        self._names = setup.Names(secrets.token_hex(3))
        self._metrics = metrics_pb2_grpc.MetricsServiceStub(gateway.channel)
        self._load_end = 0.0
        self._reports = reports_pb2_grpc.ReportsServiceStub(gateway.channel)

    async def tell(self) -> None:
        """All of it; raises StepFailedError."""
        await self._set_up()
        await self._metrics_arrive()
        breach = await self._measure()
        await self._create_rule(breach)
        alert = await self._alert_fires(breach)
        alarm = await self._is_delivered("The alert is mailed", self._names.alert_template)
        await self._alert_resolves(alert)
        report = await self._report_is_rendered(alert)
        path = await self._download(report)
        mailed = await self._is_delivered("The report is mailed", self._names.report_template)
        mail_path = self._check_mail(mailed, report)
        await self._show_trace(alert.trace_id, [alarm, mailed], report)
        self._say_where(path, mail_path or mailed.receipt)

    async def _set_up(self) -> None:
        async with self._step("Set up templates, a recipient and subscriptions", 20, "notify gateway") as step:
            await setup.subscribe_notify(self._gateway, self._names)
            step.outcome = f"notify mails {setup.ADDRESS} when an alert fires and when a report is completed"

    async def _metrics_arrive(self) -> None:
        """The second export is waited for: psutil has nothing to compare the first one's shares with, and says 0."""
        involved = ("source", "metrics gateway", "metrics worker")
        async with self._step("Live metrics arrive from a stock OpenTelemetry SDK", 60, *involved) as step:
            every: list[metrics_pb2.SeriesInfo] = []
            while not {incident.CPU, incident.PROCESS} <= {each.metric for each in every if _came_again(each)}:
                self._source.check()
                await asyncio.sleep(_POLL_SECONDS)
                every = await self._known("")
            step.outcome = f"{len(every)} series of {len({each.metric for each in every})} metrics, every second"
        for line in _examples(every):
            self._narrator.note(line)

    async def _measure(self) -> Breach:
        """The baseline is what the service has seen, not what this process would measure."""
        async with self._step("Measure a baseline", 60, "source", "metrics worker") as step:
            seen: defaultdict[tuple[str, tuple[tuple[str, str], ...]], dict[int, float]] = defaultdict(dict)
            while min(map(len, seen.values()), default=0) < BASELINE_SAMPLES:
                for each in [*await self._known(incident.CPU), *await self._known(incident.PROCESS)]:
                    key = each.metric, tuple(sorted(each.labels.items()))
                    seen[key][each.last_time.ToNanoseconds()] = each.last_value
                step.doing(f"{min(map(len, seen.values()), default=0)} of {BASELINE_SAMPLES} samples")
                self._source.check()
                await asyncio.sleep(_POLL_SECONDS)
            baselines = [
                Baseline(metric, dict(labels), [*values.values()]) for (metric, labels), values in seen.items()
            ]
            breach = incident.choose(baselines, load.processors_to_fill())
            step.outcome = f"{breach.subject}: {breach.baseline:.1%}"
            return breach

    async def _create_rule(self, breach: Breach) -> None:
        async with self._step("Create an alert rule", 20, "metrics gateway") as step:
            rule = await setup.create_rule(self._gateway, self._names, breach)
            side = "above" if breach.above else "below"
            lasting = f"over {setup.WINDOW.seconds} s, for {setup.FOR.seconds} s"
            step.outcome = f"{rule.metric} {side} {breach.threshold:.1%} {lasting}"

    async def _alert_fires(self, breach: Breach) -> metrics_pb2.Alert:
        involved = ("metrics scheduler", "metrics worker", "metrics gateway", "source")
        async with self._step("Put load on this machine until the alert fires", 120, *involved) as step:
            await self._source.load(breach.processor)
            self._load_end = asyncio.get_running_loop().time() + LOAD_SECONDS
            async with self._following(step):
                event, fired = await self._feed.first(
                    setup.FIRED, metrics_pb2.AlertFired, lambda data: data.alert.rule_id == self._names.rule
                )
            step.outcome = f"value {fired.alert.value:.1%}"
        self._tell_event(event)
        return fired.alert

    async def _alert_resolves(self, alert: metrics_pb2.Alert) -> None:
        involved = ("metrics scheduler", "metrics worker", "source")
        async with self._step("Take the load away until the alert resolves", 180, *involved) as step:
            await asyncio.sleep(self._load_end - asyncio.get_running_loop().time())
            await self._source.rest()
            async with self._following(step):
                event, resolved = await self._feed.first(
                    setup.RESOLVED, metrics_pb2.AlertResolved, lambda data: data.alert.alert_id == alert.alert_id
                )
            await setup.delete_rule(self._gateway, self._names)
            lasted = _between(resolved.alert.breach_time, resolved.alert.resolve_time)
            step.outcome = f"the breach lasted {trace_tree.duration_text(lasted)}"
        self._tell_event(event)

    async def _is_delivered(self, title: str, template_id: str) -> notify_pb2.Delivery:
        async with self._step(title, 60, "notify subscriber", "notify worker", "notify gateway") as step:
            _, delivered = await self._feed.first(
                setup.DELIVERED, notify_pb2.DeliveryDelivered, lambda data: data.delivery.template_id == template_id
            )
            delivery = delivered.delivery
            step.outcome = f'"{delivery.subject}" to {delivery.destination}'
        return delivery

    async def _report_is_rendered(self, alert: metrics_pb2.Alert) -> reports_pb2.Report:
        bar = Bar(self._narrator)
        following = asyncio.create_task(self._show_progress(bar))
        involved = ("reports subscriber", "reports worker", "reports gateway", "metrics gateway")
        async with self._step("The incident report is rendered", 120, *involved) as step:
            try:
                event, completed = await self._feed.first(
                    setup.COMPLETED, reports_pb2.ReportCompleted, lambda data: data.alert_id == alert.alert_id
                )
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                bar.close()
            report = completed.report
            step.outcome = f'"{report.title}", {report.charts} charts, {report.size_bytes / 1024:.0f} KiB'
        self._tell_event(event)
        return report

    async def _show_progress(self, bar: Bar) -> None:
        async for event in self._feed.all():
            change = events_pb2.OperationChanged()
            if event.type == "waybill.reports.operation.progressed" and event.data.Unpack(change):
                bar.update(change.progress.percent, change.progress.message)

    async def _download(self, report: reports_pb2.Report) -> Path:
        async with self._step("Download the report", 30, "reports gateway") as step:
            path = self._site.folder / report.filename
            request = reports_pb2.DownloadReportRequest(report_id=report.report_id)
            content = b"".join([answer.chunk async for answer in self._reports.DownloadReport(request, timeout=30)])
            if hashlib.sha256(content).hexdigest() != report.sha256:
                raise StepFailedError(step.title, "the bytes do not have the report's SHA-256", ["reports gateway"])
            path.write_bytes(content)
            step.outcome = f"{len(content)} bytes, SHA-256 verified"
        return path

    def _check_mail(self, delivery: notify_pb2.Delivery, report: reports_pb2.Report) -> Path | None:
        """The mail lies where its receipt says and carries the very bytes of the report; None: not to be seen here."""
        if self._site.maildir is None:
            return None
        path = self._site.maildir / delivery.receipt
        title = "The report is mailed"
        if not path.is_file():
            raise StepFailedError(title, f"{path} is not there", ["notify worker"])
        if report.sha256 not in mail.read(path).attachments.values():
            raise StepFailedError(title, f"{path} does not have the report attached", ["notify worker"])
        return path

    async def _show_trace(
        self, trace_id: str, deliveries: Sequence[notify_pb2.Delivery], report: reports_pb2.Report
    ) -> None:
        if self._site.traces is None:
            self._narrator.note(f"no trace receiver here; the incident's trace is {trace_id}")
            return
        known = {report.operation, *(name for each in deliveries for name in (each.operation, each.notification))}
        involved = ("dashboard traces", *(f"{service} gateway" for service in SERVICES))
        title = "The incident's trace is whole"
        spans: list[traces_pb2.Span] = []
        async with (
            TraceReceiver(self._site.traces, self._site.access) as receiver,
            self._step(title, 60, *involved) as step,
        ):
            try:
                async with asyncio.timeout(45):
                    await self._collect(receiver.watch(trace_id), spans, known, step)
            except TimeoutError:
                why = "; ".join(trace_tree.what_is_missing(spans, SERVICES, known))
                raise StepFailedError(title, f"trace {trace_id}: {why}", involved) from None
            step.outcome = trace_id
        self._narrator.show(trace_tree.rendered(spans))

    async def _collect(
        self, arriving: AsyncIterator[traces_pb2.Span], spans: list[traces_pb2.Span], known: Iterable[str], step: Step
    ) -> None:
        async for span in arriving:
            spans.append(span)
            missing = trace_tree.what_is_missing(spans, SERVICES, known)
            if not missing:
                return
            step.doing(f"{len(spans)} spans; {missing[0]}")

    def _say_where(self, report: Path, mailed: Path | str) -> None:
        self._narrator.show("")
        self._narrator.show(f"report  {report}")
        self._narrator.show(f"mail    {mailed}")
        self._narrator.show(f"folder  {self._site.folder}")

    @asynccontextmanager
    async def _step(self, title: str, limit_seconds: float, *involved: str) -> AsyncIterator[Step]:
        with self._narrator.step(title) as step:
            try:
                async with asyncio.timeout(limit_seconds):
                    yield step
            except TimeoutError:
                raise StepFailedError(title, f"it did not come within {limit_seconds:g} s", involved) from None
            except (grpc.aio.AioRpcError, WaybillError) as error:
                raise StepFailedError(title, call_text(error), involved) from error
            except (OperationFailedError, SourceError, incident.NoBaselineError) as error:
                raise StepFailedError(title, str(error), involved) from error

    @asynccontextmanager
    async def _following(self, step: Step) -> AsyncIterator[None]:
        """Beside the step's title: how the rule's alert stands."""

        async def follow() -> None:
            request = metrics_pb2.ListAlertsRequest(rule_id=self._names.rule, page_size=1)
            while True:
                answer = await self._metrics.ListAlerts(request, timeout=_TIMEOUT)
                for alert in answer.alerts:
                    state = metrics_pb2.AlertState.Name(alert.state).removeprefix("ALERT_STATE_").lower()
                    step.doing(f"{state}, value {alert.value:.1%}")
                await asyncio.sleep(_POLL_SECONDS)

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _tell_event(self, event: events_pb2.Event) -> None:
        self._narrator.note(f"event {event.type} of {event.subject}")

    async def _known(self, metric: str) -> list[metrics_pb2.SeriesInfo]:
        """The series of one metric that the demo's own exporter has sent; "": of all."""
        found: list[metrics_pb2.SeriesInfo] = []
        request = metrics_pb2.ListSeriesRequest(metric_prefix=metric, page_size=1_000)
        while True:
            answer = await self._metrics.ListSeries(request, timeout=_TIMEOUT)
            found += [each for each in answer.series if each.labels.get("service.name") == "waybill-demo"]
            if not answer.next_page_token:
                return [each for each in found if metric in {"", each.metric}]
            request.page_token = answer.next_page_token


def _came_again(series: metrics_pb2.SeriesInfo) -> bool:
    return bool(series.last_time.ToNanoseconds() > series.first_time.ToNanoseconds())


def _examples(series: Iterable[metrics_pb2.SeriesInfo]) -> Iterator[str]:
    """The last values of a few series that everybody knows."""
    for each in series:
        if each.unit == "1" and each.metric in _SHOWN and each.labels.get("state") in _SHOWN[each.metric]:
            told = ", ".join(f"{key}={each.labels[key]}" for key in ("cpu", "state") if key in each.labels)
            yield f"{each.metric} {{{told}}} {each.last_value:.1%}"


_SHOWN = {incident.CPU: {"user", "idle"}, "system.memory.utilization": {"used"}}


def _between(start: Timestamp, end: Timestamp) -> timedelta:
    return timedelta(microseconds=(end.ToNanoseconds() - start.ToNanoseconds()) / 1_000)
