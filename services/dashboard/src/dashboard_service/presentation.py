"""What the templates share: filters, the state of the navigation, and the answer to a form."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.statuses import reason_of, status_code
from flask import Flask, Response, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue
from google.rpc import status_pb2

from dashboard_service import formatting, payloads
from dashboard_service.context import current
from dashboard_service.operation_rows import FINAL_STATES, STATES, instant, split_name

NAVIGATION = (
    ("overview.page", "Overview", "pulse"),
    ("operations.page", "Operations", "list"),
    ("queues.page", "Queues", "inbox"),
    ("workers.page", "Workers", "cpu"),
    ("dead_letters.page", "Dead letters", "letter"),
    ("alerts.page", "Alerts", "bell"),
    ("audit.page", "Audit log", "log"),
)

# What a form has done, as a page says it after the redirect. The text of the address is never shown.
NOTICES = {
    "cancelled": "Cancellation is requested.",
    "paused": "The queue is paused: workers take nothing from it.",
    "resumed": "The queue is open again.",
    "purged": "What waited in the queue is cancelled.",
    "cancelled-many": "{count} cancelled, or asked to end where an attempt runs.",
    "replayed-many": "{count} dead letters are replayed by new operations.",
    "discarded-many": "{count} dead letters are discarded. Their operations stay failed.",
    "going-on": "{count} so far. It goes on; the audit log will say how it ended.",
    "concurrency": "The worker is told how many slots to have.",
    "draining": "The worker takes nothing more and ends when its attempts have.",
    "replayed": "A new operation replays the dead letter.",
    "discarded": "The dead letter is discarded. Its operation stays failed.",
}


def install(app: Flask) -> None:
    """Give the templates their filters and globals."""
    app.jinja_env.filters.update(
        duration=formatting.duration,
        seconds=lambda value: formatting.duration(timedelta(seconds=value)),
        position=formatting.position,
        size=formatting.size,
        rate=formatting.rate,
        count=formatting.count,
        machine_time=formatting.machine_time,
        instant=formatting.instant,
        unix_ms=formatting.unix_ms,
        from_ms=formatting.from_ms,
        short=formatting.short_id,
        sentence=formatting.sentence,
        payload=payloads.printed,
        payload_type=payloads.type_name,
        when=instant,
        error_code=_error_code,
        error_reason=reason_of,
        error_details=_error_details,
        service_of=lambda name: split_name(name)[0],
        id_of=lambda name: split_name(name)[1],
    )
    app.jinja_env.globals.update(
        NAVIGATION=NAVIGATION,
        STATES=STATES,
        FINAL_STATES=FINAL_STATES,
        now=lambda: datetime.now(UTC),
        form_id=lambda: str(uuid.uuid4()),
    )
    app.context_processor(_page_context)


def _page_context() -> dict[str, Any]:
    dashboard = current()
    return {
        "services": tuple(dashboard.clients.gateways),
        "jaeger_url": dashboard.settings.jaeger_url,
        "insecure": dashboard.settings.waybill.insecure,
        "has_traces": dashboard.clients.traces is not None or bool(dashboard.settings.jaeger_api),
        "notice": said(request.args.get("notice", ""), request.args.get("count", 0, int)),
    }


def _error_code(status: status_pb2.Status) -> str:
    return status_code(status).name


def _error_details(status: status_pb2.Status) -> str:
    """Every detail as JSON, for what the page does not show in its own way; empty for none."""
    printed = [json.loads(payloads.printed(packed)) for packed in status.details]
    names = [payloads.type_name(packed) for packed in status.details]
    shown = [{"@type": name, **detail} for name, detail in zip(names, printed, strict=True)]
    return json.dumps(shown, indent=2, ensure_ascii=False) if shown else ""


def wants_json() -> bool:
    """Whether a program asks: anything under /api/, the pages' own scripts, a live stream."""
    accepted = request.accept_mimetypes
    of_a_program = bool(accepted) and accepted.best_match(["text/html", "application/json"]) != "text/html"
    return request.path.startswith("/api/") or of_a_program


def done(notice: str, to: str, count: int = 0, refused: Sequence[str] = ()) -> ResponseReturnValue:
    """The answer to a form that did what it should, but for what was refused."""
    if wants_json():
        answer: Response = jsonify({"notice": said(notice, count), "location": to, "refused": list(refused)})
        return answer
    number = f"&count={count}" if count else ""
    return redirect(f"{to}{'&' if '?' in to else '?'}notice={notice}{number}", code=303)


def said(notice: str, count: int) -> str:
    """The text of a notice; empty for one that is not known."""
    return NOTICES.get(notice, "").format(count=f"{count:,}")


def ask(question: str, count: int, back: str) -> ResponseReturnValue:
    """The form is to be sent again with `confirmed`: by the page's own script, or from a page that asks."""
    if wants_json():
        answer: Response = jsonify({"question": question, "count": count})
        return answer
    fields = [(name, value) for name, value in request.form.items(multi=True) if name != "csrf_token"]
    return render_template("confirm.html", question=question, fields=fields, back=back)
