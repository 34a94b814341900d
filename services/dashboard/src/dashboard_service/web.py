"""The Flask application: pages, the live stream and the API, over one set of clients."""

import grpc
from chassis.authority import Authority
from chassis.errors import WaybillError
from flask import Flask, Response, jsonify, make_response, render_template, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException

from dashboard_service import api, context, login, presentation, problems, security
from dashboard_service.audit_log import AuditLog
from dashboard_service.clients import Clients
from dashboard_service.context import Dashboard
from dashboard_service.errands import Errands
from dashboard_service.live import Hub
from dashboard_service.problems import Problem
from dashboard_service.sessions import Sessions
from dashboard_service.settings import DashboardSettings
from dashboard_service.views import (
    alerts,
    audit,
    bulk,
    dead_letters,
    live,
    operations,
    overview,
    queues,
    statistics,
    traces,
    workers,
)

# A payload that is edited for a replay, and the fields beside it.
_MAX_BODY_BYTES = 4 << 20


def create_app(settings: DashboardSettings, clients: Clients) -> Flask:
    """Build the application. It follows nothing until its hub is started, after any fork."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = max(_MAX_BODY_BYTES, 2 * settings.waybill.max_payload_bytes)
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_CONTENT_LENGTH"]
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    authority = Authority(settings.service, settings.waybill)
    app.extensions[context.KEY] = Dashboard(
        settings,
        clients,
        Hub(clients, settings.max_streams),
        authority,
        Sessions(authority, settings.folder / "session.key", settings.session_lasts),
        AuditLog(settings.database, settings.audit_kept),
        Errands(),
    )
    security.install(app)
    login.install(app)
    presentation.install(app)
    for module in (
        overview,
        statistics,
        operations,
        bulk,
        traces,
        queues,
        workers,
        dead_letters,
        alerts,
        audit,
        live,
        api,
    ):
        app.register_blueprint(module.blueprint)
    app.register_error_handler(grpc.RpcError, lambda error: _answer(problems.of_call(error)))
    app.register_error_handler(WaybillError, lambda error: _answer(problems.of_error(error)))
    app.register_error_handler(HTTPException, _http_error)
    app.add_url_rule(security.PROBE_PATH, "healthz", _healthz)
    return app


def _healthz() -> Response:
    """Whether this process answers; what it shows of the services is not its own health."""
    return jsonify({"status": "serving"})


def _http_error(error: HTTPException) -> Response:
    if error.response is not None or error.code is None:
        return make_response(error.get_response())
    detail = error.description or error.name
    response = _answer(Problem(status=error.code, code=error.name.upper().replace(" ", "_"), detail=detail))
    for name, value in error.get_headers(request.environ):
        if name.lower() in {"allow", "retry-after"}:
            response.headers[name] = value
    return response


def _answer(problem: Problem) -> Response:
    """A problem as the caller reads it: JSON for programs and scripts, a page for a browser that navigates."""
    if presentation.wants_json():
        response = jsonify(problem.as_json())
        response.mimetype = problems.MEDIA_TYPE
    else:
        response = make_response(render_template("problem.html", problem=problem))
    response.status_code = problem.status
    if problem.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, round(problem.retry_after_seconds)))
    return response
