"""What an older version, which runs on while a newer one rolls over it, could not live with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

_TABLE: Final = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(?P<table>\w+) \(")
_INDEX: Final = re.compile(r"CREATE INDEX ")
_UNIQUE: Final = re.compile(r"CREATE UNIQUE INDEX (?:IF NOT EXISTS )?\w+ ON (?P<table>\w+) ")
_COLUMN: Final = re.compile(r"ALTER TABLE \w+ ADD COLUMN (?P<column>.+)")
_ROWS: Final = re.compile(r"(INSERT INTO|UPDATE) ")
_BINDING: Final = re.compile(r"\b(PRIMARY KEY|UNIQUE|GENERATED|CHECK)\b")


def objections(statements: Iterable[str]) -> list[str]:
    """Those of a revision that an older version could not live with; what is not known to be harmless is one of them.

    Harmless are tables, indexes, and columns that may be null or have a default. A unique index is so on a table of the
    same revision alone: rows of the older version would break it.
    """
    return list(_objections(statements))


def _objections(statements: Iterable[str]) -> Iterator[str]:
    made: set[str] = set()
    for statement in statements:
        if table := _TABLE.match(statement):
            made.add(table["table"])
        elif not _harmless(statement, made):
            yield statement


def _harmless(statement: str, made: set[str]) -> bool:
    if unique := _UNIQUE.match(statement):
        return unique["table"] in made
    if added := _COLUMN.match(statement):
        column = added["column"]
        return not _BINDING.search(column) and ("NOT NULL" not in column or "DEFAULT" in column)
    return bool(_INDEX.match(statement) or _ROWS.match(statement))
