"""Who asks, and what that one may do: by proxy, certificate, token or session; and the pages to log in and out.

Without WAYBILL_TOKENS_FILE nobody is asked: the listener is on loopback then, or open by the operator's word.
"""

import ssl
from typing import Any
from urllib.parse import urlsplit

from chassis import logging
from chassis.channels import spoken_for
from chassis.credentials import Principal
from chassis.errors import PermissionDenied, Unauthenticated
from chassis.roles import Role
from flask import Blueprint, Flask, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from dashboard_service import presentation, security
from dashboard_service.context import current

SESSION_COOKIE = "waybill_session"
ANONYMOUS = "anonymous"

VIEWERS = frozenset({Role.VIEWER, Role.OPERATOR})
OPERATORS = frozenset({Role.OPERATOR})
SUBMITTERS = frozenset({Role.SUBMITTER, Role.OPERATOR, Role.SERVICE})
EVERYBODY = frozenset(Role)
# Whom nothing but the listener's own place lets in may do all that people do.
_UNASKED = frozenset({Role.VIEWER, Role.SUBMITTER, Role.OPERATOR})
_OPEN_ENDPOINTS = frozenset({"static", "healthz", "login.form", "login.enter", "login.leave"})

log = logging.get_logger()
blueprint = Blueprint("login", __name__)


def install(app: Flask) -> None:
    """Ask every request who makes it. After `security`, whose refusals need nobody's name."""
    app.before_request(_admit)
    app.teardown_request(_forget)
    app.register_blueprint(blueprint)
    app.jinja_env.globals["may_act"] = may_act
    app.context_processor(lambda: {"caller": caller(), "logged_in": "session" in g and g.session})


def caller() -> Principal | None:
    """Who asks; None where nobody has been asked yet."""
    found: Principal | None = g.get("caller")
    return found


def principal() -> str:
    """The caller's name, for the audit log."""
    found = caller()
    return (found.name if found else "") or ANONYMOUS


def may_act() -> bool:
    """Whether the caller steers what the pages show."""
    found = caller()
    return found is not None and not OPERATORS.isdisjoint(found.roles)


def still_admitted() -> bool:
    """Whether who opened a stream would be let in again: a session may have ended since."""
    try:
        found = _identify()
    except Unauthenticated:
        return False
    return found is not None and not VIEWERS.isdisjoint(found.roles)


@blueprint.get("/login")
def form() -> ResponseReturnValue:
    """The page that asks for a token."""
    return _login_page("")


@blueprint.post("/login")
def enter() -> ResponseReturnValue:
    """Take the token for a session."""
    try:
        cookie = current().sessions.begin(request.form.get("token", "").strip())
    except Unauthenticated as error:
        log.info("login.refused", reason=error.reason)
        return _login_page(error.message), 401
    response = redirect(_local(request.form.get("next", "")), code=303)
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=current().settings.session_lasts,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
        path="/",
    )
    security.renew_csrf_token()
    found = current().sessions.principal(cookie)
    log.info("login.done", principal=found.name if found else "")
    return make_response(response)


@blueprint.post("/logout")
def leave() -> ResponseReturnValue:
    """Let the browser forget its session."""
    response = make_response(redirect(url_for(".form"), code=303))
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="Strict", secure=request.is_secure, path="/")
    return response


def _login_page(complaint: str) -> str:
    return render_template("login.html", complaint=complaint, next=_local(request.values.get("next", "")))


def _local(target: str) -> str:
    """A path of ours, whatever the form says."""
    parts = urlsplit(target)
    mine = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and target.isprintable()
    return target if mine else url_for("overview.page")


def _admit() -> ResponseReturnValue | None:
    if request.endpoint in _OPEN_ENDPOINTS:
        return None
    found = _identify()
    if found is None:
        if presentation.wants_json() or request.method != "GET" or request.endpoint == "live.stream":
            raise Unauthenticated("log in, or send a token", reason="CREDENTIALS_MISSING", domain="dashboard")
        return redirect(url_for("login.form", next=request.full_path.rstrip("?")), code=303)
    g.caller = found
    wanted = _wanted()
    if wanted.isdisjoint(found.roles):
        raise PermissionDenied(
            f"{found.name or ANONYMOUS} has none of the roles {', '.join(sorted(wanted))}",
            reason="ROLE_MISSING",
            metadata={"roles_wanted": ",".join(sorted(wanted))},
            domain="dashboard",
        )
    # The gateways are told for whom the dashboard calls, and hold that one to its roles.
    spoken_for.set(found if found.name else None)
    return None


def _forget(_error: BaseException | None) -> None:
    spoken_for.set(None)


def _wanted() -> frozenset[Role]:
    """Who may make this request; its gateway is asked again for what the request does there."""
    changes = request.method not in security.SAFE_METHODS
    if request.path.startswith(security.API_PREFIX):
        return SUBMITTERS if changes else EVERYBODY
    return OPERATORS if changes else VIEWERS


def _identify() -> Principal | None:
    """Who asks; None for nobody. Raises Unauthenticated for credentials that are no good."""
    named = _vouched_for()
    if named:
        return _listed(named)
    if current().settings.waybill.tokens_file is None:
        return Principal("", _UNASKED)
    header = request.headers.get("Authorization")
    if header is not None:
        return current().authority.identify(header)
    found = current().sessions.principal(request.cookies.get(SESSION_COOKIE, ""))
    g.session = found is not None
    return found


def _listed(name: str) -> Principal:
    """Whom a proxy or a certificate names; the file of tokens, where there is one, says which roles that one has."""
    if current().settings.waybill.tokens_file is None:
        return Principal(name, _UNASKED)
    return current().authority.by_name(name) or Principal(name, frozenset())


def _vouched_for() -> str:
    """As a proxy that is believed says, else by certificate; empty for neither."""
    settings = current().settings
    named = request.headers.get(settings.principal_header, "") if settings.principal_header else ""
    found = named.strip() or (_common_name() if settings.client_certificates else "")
    # It goes on to the gateways as metadata.
    return found if found.isascii() and found.isprintable() else ""


def _common_name() -> str:
    """That of the browser's certificate, which gunicorn's TLS has verified; empty for none."""
    connection = request.environ.get("gunicorn.socket")
    shown = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    subject: Any = (shown or {}).get("subject", ())
    return next((str(value) for part in subject for key, value in part if key == "commonName"), "")
