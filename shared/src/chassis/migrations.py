"""Revisions, run by alembic. Importing it takes most of a second: only what has a revision to run does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any, Final

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.config import Config
from alembic.operations.ops import MigrationScript
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory

from chassis.lineages import Lineage, lineage_of

# `alembic.op`, by which revisions act, is the process's.
_one_at_a_time: Final = threading.Lock()


def upgrade(connection: sa.Connection, lineage: Lineage) -> bool:
    """Run what is missing, in the caller's transaction; whether there was any.

    A revision that is not known here is a newer version's: nothing is missing then.
    """
    run: list[MigrationStep] = []

    def missing(at: Any, _: MigrationContext) -> list[MigrationStep]:
        if max(at, default="") < lineage.head:
            run.extend(_steps(lineage, "head", at))
        return run

    with _one_at_a_time:
        _run(lineage, missing, connection=connection)
    return bool(run)


def rendered(lineage: Lineage, revision: str, dialect: str) -> list[str]:
    """The statements of one revision, as a database of that dialect would be given them; none is asked."""
    output = StringIO()
    before = f"{int(revision) - 1:04}"
    start = before if before in lineage.revisions else None

    def this(_at: Any, _: MigrationContext) -> list[MigrationStep]:
        return _steps(lineage, revision, start or ())

    with _one_at_a_time:
        _run(lineage, this, dialect_name=dialect, as_sql=True, output_buffer=output, transactional_ddl=True)
    return list(_statements(output.getvalue(), lineage))


def unused_since(lineage: Lineage, revision: str) -> str:
    """The release that stopped using what a revision takes away; "" for one that takes nothing away."""
    return str(getattr(_script(lineage).get_revision(revision).module, "unused_since", ""))


def differences(connection: sa.Connection, metadata: sa.MetaData) -> MigrationScript:
    """What would have to be done to a database so that its tables are those of `metadata`."""
    options = {"include_name": _is_ours, "compare_type": True, "compare_server_default": True}
    return produce_migrations(MigrationContext.configure(connection, opts=options), metadata)


def _run(lineage: Lineage, steps: Any, **options: Any) -> None:
    script = _script(lineage)
    with EnvironmentContext(Config(), script, fn=steps, as_sql=options.pop("as_sql", False)) as environment:
        environment.configure(version_table=lineage.version_table, **options)
        environment.run_migrations()


def _steps(lineage: Lineage, to: str, at: Any) -> list[MigrationStep]:
    # What `alembic upgrade` calls.
    return list(_script(lineage)._upgrade_revs(to, at))  # noqa: SLF001


def _script(lineage: Lineage) -> ScriptDirectory:
    return ScriptDirectory(str(lineage.folder), version_locations=[str(lineage.folder)])


def _statements(script: str, lineage: Lineage) -> Iterator[str]:
    for part in script.split(";\n"):
        lines = (line for line in part.splitlines() if line and not line.startswith("--"))
        statement = " ".join(" ".join(lines).split())
        if statement not in {"", "BEGIN", "COMMIT"} and lineage.version_table not in statement:
            yield statement


def _is_ours(name: str | None, kind: str, _: Any) -> bool:
    return kind != "table" or name is None or not lineage_of(name)
