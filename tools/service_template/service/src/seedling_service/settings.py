"""Settings of seedling: variables that begin with SEEDLING_."""

from __future__ import annotations

from chassis.settings import Address, ServiceSettings
from pydantic_settings import SettingsConfigDict


class SeedlingSettings(ServiceSettings):
    """What the processes of this service are told."""

    model_config = SettingsConfigDict(env_prefix="SEEDLING_")

    listen: Address = "127.0.0.1:50999"
