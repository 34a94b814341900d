"""`python -m seedling_service gateway | worker | --check`."""

import sys

from chassis.process import Service, run

from seedling_service.settings import SeedlingSettings

SERVICE = Service(
    name="seedling",
    settings=SeedlingSettings,
    app="seedling_service.tasks:app",
    gateway="seedling_service.gateway:serve",
)

if __name__ == "__main__":
    sys.exit(run(SERVICE))
