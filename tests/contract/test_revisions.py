"""The databases of services: what revisions build, what they take over, and what an older version can live with."""

from importlib.metadata import version
from pathlib import Path

import pytest
import sqlalchemy as sa
from chassis.database import open_database, revisions_in
from chassis.lineages import databases, lineages_of
from chassis.migrations import differences, rendered, unused_since
from chassis.testing.rollover import objections

DATABASES = databases()
LINEAGES = {lineage.name: lineage for metadata in DATABASES.values() for lineage in lineages_of(metadata)}
REVISIONS = [(name, revision) for name, lineage in sorted(LINEAGES.items()) for revision in lineage.revisions]
# What services made before revisions were counted: one script for each kind of database.
CREATED = Path(__file__).with_name("created")
SERVICES = sorted({path.name.partition(".")[0] for path in CREATED.iterdir()})


def catalog(engine):
    """Everything that the database knows of its tables, but for how far lineages have come."""
    if engine.dialect.name == "sqlite":
        known = ["SELECT name, replace(sql, ' IF NOT EXISTS', '') FROM sqlite_master WHERE sql IS NOT NULL"]
    else:
        columns = "table_name, column_name, data_type, character_maximum_length, is_nullable, column_default"
        known = [
            f"SELECT {columns}, collation_name FROM information_schema.columns WHERE table_schema = 'public'",
            "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid > 0",
        ]
    with engine.connect() as connection:
        rows = [tuple(map(spelled, row)) for query in known for row in connection.execute(sa.text(query))]
    return sorted(row for row in rows if "alembic_version" not in row[0])


def spelled(value):
    """Without line breaks; what stands in a CREATE TABLE may stand in any order."""
    words = str(value).replace("(", " ( ").replace(")", " ) ").replace(",", " ").split()
    return " ".join(sorted(words) if words[:2] == ["CREATE", "TABLE"] else words)


def run_script(engine, service):
    """Make the tables as services once made them."""
    with engine.begin() as connection:
        for statement in (CREATED / f"{service}.{engine.dialect.name}.sql").read_text().split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)


def reflected(engine):
    metadata = sa.MetaData()
    metadata.reflect(engine, only=lambda name, _: not name.startswith("alembic_version"))
    return metadata


def a_value(column):
    """Any that fits; one that is named by others is the same in all of them."""
    kind = column.type.python_type
    return {str: "x", bytes: b"x", bool: False, int: 1, float: 1.0}[kind]


def fill(engine):
    """A row in every table; returns the contents of all."""
    metadata = reflected(engine)
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            connection.execute(sa.insert(table).values({column.name: a_value(column) for column in table.c}))
    return contents(engine, metadata)


def contents(engine, metadata):
    with engine.connect() as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }


@pytest.fixture
def engine(database_url):
    """An empty database, with nothing done to it."""
    opened = open_database(database_url, sa.MetaData())
    yield opened
    opened.dispose()


def test_every_service_with_a_database_is_looked_at():
    """A service whose tables no entry point names would go unread."""
    declaring = {path.parts[-4] for path in Path(__file__).parents[2].glob("services/*/src/*/revisions")}

    assert declaring == set(DATABASES) - {"archive", "outbox"}


@pytest.mark.parametrize("name", sorted(LINEAGES))
def test_revisions_are_numbered_without_a_gap(name):
    """So that every process can tell a newer revision from an older one by its number alone."""
    lineage = LINEAGES[name]

    assert lineage.revisions == [f"{number:04}" for number in range(1, len(lineage.revisions) + 1)]
    assert len(lineage.revisions) == len(list(lineage.folder.glob("*.py")))


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@pytest.mark.parametrize(("name", "revision"), REVISIONS)
def test_an_older_version_can_live_with_a_revision(name, revision, dialect):
    """While one rolls over the other; what takes something away names the release that stopped using it."""
    statements = rendered(LINEAGES[name], revision, dialect)
    owner = f"waybill-{name if name in DATABASES and name not in {'archive', 'outbox'} else 'chassis'}"

    if released := unused_since(LINEAGES[name], revision):
        assert as_numbers(released) < as_numbers(version(owner)), f"{released} has not been released yet"
    else:
        assert objections(statements) == []


def as_numbers(release):
    return [int(number) for number in release.split(".")]


@pytest.mark.parametrize("name", sorted(DATABASES))
def test_revisions_build_the_tables_that_the_code_knows(name, engine, database_url):
    """Nothing is missing, nothing is left over, and the database's own catalog is that of tables made at once."""
    metadata = DATABASES[name]
    metadata.create_all(engine)
    made_at_once = catalog(engine)
    metadata.drop_all(engine)

    open_database(database_url, metadata).dispose()

    with engine.connect() as connection:
        assert differences(connection, metadata).upgrade_ops.as_diffs() == []
    assert catalog(engine) == made_at_once
    assert revisions_in(engine) == {lineage.name: lineage.head for lineage in lineages_of(metadata)}


@pytest.mark.parametrize("name", SERVICES)
def test_a_database_from_before_revisions_is_taken_over(name, engine, database_url):
    """Its rows stay, and its tables are those of a new one."""
    run_script(engine, name)
    before = reflected(engine)
    rows = fill(engine)

    open_database(database_url, DATABASES[name]).dispose()

    assert contents(engine, before) == rows
    with engine.connect() as connection:
        assert differences(connection, DATABASES[name]).upgrade_ops.as_diffs() == []
    assert revisions_in(engine) == {lineage.name: lineage.head for lineage in lineages_of(DATABASES[name])}
