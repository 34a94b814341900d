"""`python -m sample_service gateway | worker | --check`."""

import sys

from chassis.process import Service, run

from sample_service.settings import SampleSettings

SERVICE = Service(
    name="sample",
    settings=SampleSettings,
    app="sample_service.tasks:app",
    gateway="sample_service.gateway:serve",
)

if __name__ == "__main__":
    sys.exit(run(SERVICE))
