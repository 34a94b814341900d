"""What was done through this dashboard, newest first."""

from flask import Blueprint, render_template, request

from dashboard_service.audit_log import ACTIONS
from dashboard_service.context import current

PAGE_SIZE = 100

blueprint = Blueprint("audit", __name__)


@blueprint.get("/audit")
def page() -> str:
    """By action and service; older entries by pages."""
    action, service = request.args.get("action", ""), request.args.get("service", "")
    before = request.args.get("before", 0, int)
    asked = {"action": action if action in ACTIONS else "", "service": service}
    found = current().audit.page(PAGE_SIZE + 1, before=max(0, before), **asked)
    entries, more = found[:PAGE_SIZE], len(found) > PAGE_SIZE
    return render_template(
        "audit.html",
        entries=entries,
        actions=ACTIONS,
        asked=asked,
        before=before,
        older=entries[-1].id if more else 0,
        kept_days=current().settings.audit_days,
    )
