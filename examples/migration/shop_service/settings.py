"""Settings of shop: variables that begin with SHOP_."""

from chassis.settings import Address, ServiceSettings
from pydantic_settings import SettingsConfigDict


class ShopSettings(ServiceSettings):
    """What the processes of this service are told."""

    model_config = SettingsConfigDict(env_prefix="SHOP_")

    listen: Address = "127.0.0.1:50060"
