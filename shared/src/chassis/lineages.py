"""Which revisions build a database: a lineage for each part of it, numbered from 0001, each in a folder of its own.

The archive, the outbox and each service's own tables are lineages of their own, so that the chassis and a service
change their tables without knowing of each other. How far a lineage has come stands in a table of the database,
`alembic_version_<lineage>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import sqlalchemy as sa

_FILE: Final = re.compile(r"(\d{4})_\w+\.py")
_KEY: Final = "lineages"
_PREFIX: Final = "alembic_version_"
#: Entry points that name the MetaData of every database: `metrics = "metrics_service.schema:METADATA"`.
DATABASES: Final = "waybill.databases"


@dataclass(frozen=True, slots=True)
class Lineage:
    """Revisions that follow each other; `folder` holds a file for each, `0001_baseline.py`."""

    name: str
    folder: Path

    @property
    def version_table(self) -> str:
        return f"{_PREFIX}{self.name}"

    @property
    def revisions(self) -> list[str]:
        """Their numbers, the oldest first; later ones are greater as strings."""
        return sorted(found[1] for path in self.folder.iterdir() if (found := _FILE.fullmatch(path.name)))

    @property
    def head(self) -> str:
        """The last of them; "" before there is any."""
        return max(self.revisions, default="")


def declare(metadata: sa.MetaData, name: str, folder: Path) -> None:
    """Tables of this metadata are built by the revisions of that folder."""
    metadata.info.setdefault(_KEY, {})[name] = Lineage(name, folder)


def lineages_of(metadata: sa.MetaData) -> tuple[Lineage, ...]:
    """Those that build this metadata's tables."""
    return tuple(metadata.info.get(_KEY, {}).values())


def lineage_of(table: str) -> str:
    """The lineage of which a table says how far it has come; "" for all other tables."""
    return table.removeprefix(_PREFIX) if table.startswith(_PREFIX) else ""


def databases() -> dict[str, sa.MetaData]:
    """The tables of every installed service's database, by its name, and of each part that they share."""
    return {point.name: point.load() for point in sorted(entry_points(group=DATABASES))}
