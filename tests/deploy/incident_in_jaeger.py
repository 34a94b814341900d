"""What the last incident has left behind, seen from outside: its trace in Jaeger and its mails in Mailpit.

    incident_in_jaeger.py --gateway HOST:PORT --ca-file FILE --token-file FILE --jaeger URL --mailpit URL

Prints the trace as a tree. Exit code 0: the trace is one tree of all services with every hop of the
incident pipeline in it, and the report that was mailed is the report that was rendered.
"""

import argparse
import hashlib
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path

import httpx
import waybill_client
from waybill.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from waybill.reports.v1 import reports_pb2, reports_pb2_grpc

CALL_SECONDS = 10.0
# Spans leave each service in batches, and Jaeger tells nobody when they have come.
WHOLE_WITHIN_SECONDS = 60.0
POLL_SECONDS = 0.5

SERVICES = {"metrics", "notify", "reports"}
FIRED, RESOLVED = "publish waybill.metrics.alert.fired", "publish waybill.metrics.alert.resolved"
COMPLETED = "publish waybill.reports.report.completed"
QUERY = "waybill.metrics.v1.MetricsService/QuerySeries"
DOWNLOAD = "waybill.reports.v1.ReportsService/DownloadReport"
# Parent and child, each as service and span name: the way of an incident from the evaluation to the mailed report.
EDGES = (
    (("metrics", "send metrics.alerts"), ("metrics", "process metrics.alerts")),
    (("metrics", "process metrics.alerts"), ("metrics", FIRED)),
    (("metrics", FIRED), ("notify", "send notify.default")),
    (("notify", "send notify.default"), ("notify", "process notify.default")),
    (("notify", "process notify.default"), ("notify", "send notify.mail")),
    (("notify", "send notify.mail"), ("notify", "process notify.mail")),
    (("metrics", FIRED), ("metrics", RESOLVED)),
    (("metrics", RESOLVED), ("reports", "send reports.default")),
    (("reports", "send reports.default"), ("reports", "process reports.default")),
    (("reports", "process reports.default"), ("reports", QUERY)),
    (("reports", QUERY), ("metrics", QUERY)),
    (("reports", "process reports.default"), ("reports", COMPLETED)),
    (("reports", COMPLETED), ("notify", "send notify.default")),
    (("notify", "process notify.mail"), ("notify", DOWNLOAD)),
    (("notify", DOWNLOAD), ("reports", DOWNLOAD)),
)


@dataclass(frozen=True)
class Span:
    """As Jaeger's HTTP API tells it."""

    span_id: str
    parent_id: str
    service: str
    name: str
    start_us: int
    duration_us: int
    tags: dict = field(default_factory=dict)

    @property
    def kind(self):
        return self.service, self.name


def main():
    """Look at the trace, then at the mails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="any gateway of the stack")
    parser.add_argument("--ca-file", required=True, type=Path, help="the authority of its certificate")
    parser.add_argument("--token-file", required=True, type=Path, help="who asks: a viewer, at least")
    parser.add_argument("--jaeger", required=True, help="where Jaeger's pages are")
    parser.add_argument("--mailpit", required=True, help="where Mailpit's pages are")
    options = parser.parse_args()
    token = options.token_file.read_text().strip()
    with waybill_client.connect(options.gateway, tls=waybill_client.Tls(options.ca_file), token=token) as client:
        alert, report = last_incident(client.channel)
    spans, missing = whole_trace(options.jaeger, alert.trace_id)
    print(f"trace {alert.trace_id}: {len(spans)} spans of {', '.join(sorted({span.service for span in spans}))}")
    show(spans)
    missing += missing_mails(options.mailpit, report)
    for each in missing:
        print(f"MISSING: {each}", file=sys.stderr)
    return 1 if missing else 0


def last_incident(channel):
    """The newest resolved alert and the newest report, whichever gateway is asked."""
    resolved = metrics_pb2.ListAlertsRequest(state=metrics_pb2.ALERT_STATE_RESOLVED, page_size=1)
    alerts = metrics_pb2_grpc.MetricsServiceStub(channel).ListAlerts(resolved, timeout=CALL_SECONDS).alerts
    newest = reports_pb2.ListReportsRequest(page_size=1)
    reports = reports_pb2_grpc.ReportsServiceStub(channel).ListReports(newest, timeout=CALL_SECONDS).reports
    if not (alerts and reports):
        raise SystemExit(f"there has been no incident: {len(alerts)} resolved alerts, {len(reports)} reports")
    return alerts[0], reports[0]


def whole_trace(jaeger, trace_id):
    """The trace once nothing is missing in it, or when the time is up, and what is missing then."""
    deadline = time.monotonic() + WHOLE_WITHIN_SECONDS
    while True:
        spans = fetched(jaeger, trace_id)
        missing = missing_in(spans)
        if not missing or time.monotonic() > deadline:
            return spans, missing
        time.sleep(POLL_SECONDS)


def fetched(jaeger, trace_id):
    """Every span of the trace that Jaeger has."""
    answer = httpx.get(f"{jaeger}/api/traces/{trace_id}", timeout=CALL_SECONDS)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return []
    (trace,) = answer.raise_for_status().json()["data"]
    services = {key: process["serviceName"] for key, process in trace["processes"].items()}
    return [span_of(each, services) for each in trace["spans"]]


def span_of(raw, services):
    """A link is a reference too: the parent is the CHILD_OF within the same trace."""
    references = [each for each in raw["references"] if each["refType"] == "CHILD_OF"]
    parents = [each["spanID"] for each in references if each["traceID"] == raw["traceID"]]
    tags = {each["key"]: each["value"] for each in raw["tags"]}
    service, parent = services[raw["processID"]], next(iter(parents), "")
    return Span(raw["spanID"], parent, service, raw["operationName"], raw["startTime"], raw["duration"], tags)


def missing_in(spans):
    """What the trace lacks, in words."""
    known = {span.span_id: span for span in spans}
    edges = {(known[span.parent_id].kind, span.kind) for span in spans if span.parent_id in known}
    roots = [span for span in spans if not span.parent_id]
    orphans = [span for span in spans if span.parent_id and span.parent_id not in known]
    sent, settled = (operations(spans, verb) for verb in ("send", "settle"))
    return [
        *(f"a span of {service}" for service in sorted(SERVICES - {span.service for span in spans})),
        *([] if len(roots) == 1 else [f"one root: there are {len(roots)}"]),
        *(f"the parent of {' '.join(span.kind)}" for span in orphans),
        *(f"{' '.join(parent)} -> {' '.join(child)}" for parent, child in EDGES if (parent, child) not in edges),
        *(f"the end of {name}" for name in sorted(sent - settled)),
        *(f"success: {' '.join(span.kind)} has an error" for span in spans if span.tags.get("error")),
    ]


def operations(spans, verb):
    """Operations with such a span; a settle counts when its state is final."""
    counted = (span for span in spans if span.name.startswith(f"{verb} "))
    return {
        span.tags["waybill.operation"]
        for span in counted
        if verb == "send" or span.tags["waybill.state"] in {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}
    }


def show(spans):
    """The spans below their parents, by start."""
    known = {span.span_id for span in spans}
    children = defaultdict(list)
    for span in sorted(spans, key=lambda each: each.start_us):
        children[span.parent_id if span.parent_id in known else ""].append(span)

    def branch(parent_id, depth):
        for span in children[parent_id]:
            state = span.tags.get("waybill.state", "")
            print(f"{'  ' * depth}{span.service}: {span.name}  {span.duration_us / 1000:.1f} ms  {state}".rstrip())
            branch(span.span_id, depth + 1)

    branch("", 1)


def missing_mails(mailpit, report):
    """The alert's mail and the report's, the second with the very bytes of the report."""
    listed = httpx.get(f"{mailpit}/api/v1/messages", timeout=CALL_SECONDS).raise_for_status().json()["messages"]
    sources = (httpx.get(f"{mailpit}/api/v1/message/{each['ID']}/raw", timeout=CALL_SECONDS) for each in listed)
    mails = [message_from_bytes(each.raise_for_status().content, policy=policy.default) for each in sources]
    for mail in mails:
        print(f"mail: {mail['Subject']}, to {mail['To']}, {mail['Message-ID']}")
    attached = {hashlib.sha256(part.get_content()).hexdigest() for mail in mails for part in mail.iter_attachments()}
    return [
        *([] if any(mail["Subject"].startswith("[FIRING]") for mail in mails) else ["the mail that the alert fires"]),
        *([] if report.sha256 in attached else [f"a mail with {report.filename}, SHA-256 {report.sha256}"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
