"""The database of the metrics service, opened once in each process, and what its settings say."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import sqlalchemy as sa
from chassis.database import open_database
from chassis.settings import load

from metrics_service.queries import Retention
from metrics_service.rollups import Resolution
from metrics_service.schema import METADATA
from metrics_service.settings import MetricsSettings


@dataclass(frozen=True, slots=True)
class Store:
    """A database and the terms on which it keeps samples; threads may share it."""

    engine: sa.Engine
    retention: Retention
    allowed_lateness: timedelta


def open_store(settings: MetricsSettings) -> Store:
    """Open the database, with its missing tables created."""
    return Store(
        engine=open_database(settings.database, METADATA),
        retention={
            Resolution.TEN_SECONDS: settings.retention_10_seconds,
            Resolution.ONE_MINUTE: settings.retention_1_minute,
            Resolution.ONE_HOUR: settings.retention_1_hour,
        },
        allowed_lateness=settings.allowed_lateness,
    )


@cache
def opened() -> Store:
    """This process's store, opened at first use with the settings of the environment."""
    return open_store(load(MetricsSettings))


def engine() -> sa.Engine:
    """The engine of this process's store, for the outbox."""
    return opened().engine
