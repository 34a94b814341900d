"""`python -m shop_service gateway | worker | --check`."""

import sys

from chassis.process import Service, run

from shop_service.settings import ShopSettings

SERVICE = Service(
    name="shop", settings=ShopSettings, app="shop_service.tasks:app", gateway="shop_service.gateway:serve"
)

if __name__ == "__main__":
    sys.exit(run(SERVICE))
