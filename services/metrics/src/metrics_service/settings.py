"""Settings of the metrics service: environment variables with the prefix METRICS_."""

from datetime import timedelta

from chassis.settings import Address, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class MetricsSettings(ServiceSettings):
    """Durations are written in ISO 8601 (`PT1H`, `P14D`) or as `[days] hh:mm:ss`."""

    model_config = SettingsConfigDict(env_prefix="METRICS_")

    listen: Address = "127.0.0.1:50051"
    # Time between two evaluations of the alert rules.
    evaluation_interval_seconds: float = Field(5.0, ge=1, le=3_600)
    # A sample that lies further back when its batch is accepted is dropped and counted.
    allowed_lateness: timedelta = Field(timedelta(hours=1), ge=timedelta(), le=timedelta(days=14))
    # How long rollups are kept, by resolution.
    retention_10_seconds: timedelta = Field(timedelta(hours=24), ge=timedelta(hours=1))
    retention_1_minute: timedelta = Field(timedelta(days=14), ge=timedelta(hours=1))
    # Also how long a series is kept after its last sample, and a resolved alert.
    retention_1_hour: timedelta = Field(timedelta(days=400), ge=timedelta(days=1))
