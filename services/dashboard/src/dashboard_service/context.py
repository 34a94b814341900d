"""What every view stands on: the settings, the clients, the live hub and the audit log of this process."""

from dataclasses import dataclass
from typing import cast

from chassis.authority import Authority
from flask import current_app

from dashboard_service.audit_log import AuditLog
from dashboard_service.clients import Clients
from dashboard_service.errands import Errands
from dashboard_service.live import Hub
from dashboard_service.sessions import Sessions
from dashboard_service.settings import DashboardSettings

KEY = "dashboard"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One per process."""

    settings: DashboardSettings
    clients: Clients
    hub: Hub
    authority: Authority
    sessions: Sessions
    audit: AuditLog
    errands: Errands


def current() -> Dashboard:
    """That of the application which handles this request."""
    return cast("Dashboard", current_app.extensions[KEY])
