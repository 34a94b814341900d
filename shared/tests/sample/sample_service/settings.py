"""Prefix SAMPLE_."""

from chassis.settings import Address, ServiceSettings
from pydantic_settings import SettingsConfigDict


class SampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    listen: Address = "127.0.0.1:0"
