"""`python -m metrics_service gateway | worker | scheduler | --check`."""

import sys

from chassis.process import Service, run

from metrics_service.settings import MetricsSettings

SERVICE = Service(
    name="metrics",
    settings=MetricsSettings,
    app="metrics_service.tasks:app",
    gateway="metrics_service.gateway:serve",
    scheduler="metrics_service.scheduler:serve",
)

if __name__ == "__main__":
    sys.exit(run(SERVICE))
