"""What a browser may do here.

- Only names that are ours are answered, so that another site cannot point its own name at this address.
- A form that changes something carries the token of its own cookie and comes from a page of ours.
- A page loads nothing from elsewhere and runs no inline script or style.
"""

import hmac
import secrets
from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, request
from werkzeug.sansio.utils import host_is_trusted

from dashboard_service.context import current

CSRF_COOKIE = "waybill_csrf"
CSRF_FIELD = "csrf_token"
PROBE_PATH = "/healthz"
API_PREFIX = "/api/"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN_BYTES = 32

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer browsers would say `Origin: null` of a form of ours too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def install(app: Flask) -> None:
    """Guard every request of the application."""
    app.before_request(_check_host)
    app.before_request(_check_origin)
    app.after_request(_add_headers)
    app.jinja_env.globals["csrf_token"] = csrf_token


def csrf_token() -> str:
    """The token of this browser, for a hidden field; a new one where it has none."""
    if "csrf_token" not in g:
        g.csrf_token = request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(_TOKEN_BYTES)
    return str(g.csrf_token)


def renew_csrf_token() -> None:
    """One that nobody has had before this browser logged in."""
    g.csrf_token = secrets.token_urlsafe(_TOKEN_BYTES)


def _check_host() -> None:
    """Probes name a pod by its address: their path is answered under any name."""
    trusted = current().settings.trusted_hosts
    if request.path != PROBE_PATH and not host_is_trusted(request.host, trusted):
        abort(400, f"{request.host!r} is not a name of this dashboard; DASHBOARD_HOSTS adds one")


def _check_origin() -> None:
    """A program sends no Origin; a browser always does with what changes something."""
    if request.method in SAFE_METHODS:
        return
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        abort(403, "the request comes from another site")
    if request.path.startswith(API_PREFIX):
        # Another site cannot send this type without asking first, and is told no.
        if request.mimetype != "application/json":
            abort(415, "expected Content-Type: application/json")
        return
    cookie, field = request.cookies.get(CSRF_COOKIE, ""), request.form.get(CSRF_FIELD, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), field.encode()):
        abort(403, "the form is out of date: load the page again")


def _add_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if "csrf_token" in g and request.cookies.get(CSRF_COOKIE) != g.csrf_token:
        response.set_cookie(
            CSRF_COOKIE, g.csrf_token, httponly=True, samesite="Strict", secure=request.is_secure, path="/"
        )
    return response
