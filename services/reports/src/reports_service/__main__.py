"""`python -m reports_service gateway | worker | subscriber | --check`."""

import sys

from chassis.process import Service, run

from reports_service.settings import ReportsSettings

SERVICE = Service(
    name="reports",
    settings=ReportsSettings,
    app="reports_service.tasks:app",
    gateway="reports_service.gateway:serve",
    subscriber="reports_service.subscriber:serve",
)

if __name__ == "__main__":
    sys.exit(run(SERVICE))
