"""Prefix CHAOS_."""

from pathlib import Path

from chassis.settings import Address, ServiceSettings
from pydantic_settings import SettingsConfigDict


class ChaosSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="CHAOS_")

    listen: Address = "127.0.0.1:0"
    # Where every run of a task is written down.
    journal: Path
    # Where the marshal listens, who lets attempts go.
    marshal: Address
    # Whether this process knows the task `chaos.newer`.
    newer: bool = False
