"""`python -m noop_service gateway | worker`."""

import sys

from chassis import logging, telemetry
from chassis.rpc import Gateway
from chassis.settings import ServiceSettings, load
from pydantic_settings import SettingsConfigDict

from noop_service.tasks import app


class NoopSettings(ServiceSettings):
    """Where the no-op's gateway listens."""

    model_config = SettingsConfigDict(env_prefix="NOOP_")
    listen: str = "127.0.0.1:0"


def main() -> int:
    """Run one process of the service."""
    logging.configure("noop", sys.argv[1], level="error")
    if sys.argv[1] == "worker":
        return app.work()
    telemetry.configure("noop")
    return Gateway(app, load(NoopSettings)).run()


if __name__ == "__main__":
    sys.exit(main())
