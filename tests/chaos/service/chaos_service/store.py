"""The service's database: its archive, nothing else."""

import functools

import sqlalchemy as sa
from chassis import history
from chassis.database import open_database

from chaos_service.effects import settings

metadata = sa.MetaData()
history.tables(metadata)


@functools.cache
def engine():
    return open_database(settings().database, metadata)
