"""`python -m chaos_service gateway | worker | --check`."""

import sys

from chassis.process import Service, run

from chaos_service.settings import ChaosSettings

SERVICE = Service(
    name="chaos",
    settings=ChaosSettings,
    app="chaos_service.tasks:app",
    gateway="chaos_service.gateway:serve",
)

if __name__ == "__main__":
    sys.exit(run(SERVICE))
