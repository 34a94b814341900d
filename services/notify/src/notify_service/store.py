"""The database of the notify service, opened once in each process."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa
from chassis.database import open_database
from chassis.settings import load

from notify_service.delivery_store import Deliveries
from notify_service.plan_store import Plans
from notify_service.recipient_store import Recipients
from notify_service.schema import METADATA
from notify_service.secret_store import Secrets
from notify_service.settings import NotifySettings
from notify_service.subscription_store import Subscriptions
from notify_service.template_store import Templates


class Store:
    """A database; threads may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.templates = Templates(engine)
        self.recipients = Recipients(engine)
        self.subscriptions = Subscriptions(engine)
        self.plans = Plans(engine)
        self.deliveries = Deliveries(engine)
        self.secrets = Secrets(engine)


def open_store(settings: NotifySettings) -> Store:
    """Open the database, with its missing tables created."""
    return Store(open_database(settings.database, METADATA))


@cache
def opened() -> Store:
    """This process's store, opened at first use with the settings of the environment."""
    return open_store(load(NotifySettings))


def engine() -> sa.Engine:
    """The engine of this process's store, for the outbox."""
    return opened().engine
