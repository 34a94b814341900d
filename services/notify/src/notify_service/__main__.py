"""`python -m notify_service gateway | worker | subscriber | --check`."""

import sys

from chassis.process import Service, run

from notify_service.settings import NotifySettings

SERVICE = Service(
    name="notify",
    settings=NotifySettings,
    app="notify_service.tasks:app",
    gateway="notify_service.gateway:serve",
    subscriber="notify_service.subscriber:serve",
)

if __name__ == "__main__":
    sys.exit(run(SERVICE))
