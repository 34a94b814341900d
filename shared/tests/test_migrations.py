"""A database is brought up to date by whoever opens it first: alone, once, wholly or not at all."""

import multiprocessing
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from chassis.database import insert_ignore, open_database, revisions_in
from chassis.lineages import declare
from structlog.testing import capture_logs

REVISION = '''"""A revision of a test."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before}


def upgrade():
    {body}
'''
CRATES = (
    'op.create_table("crates", sa.Column("name", sa.Text(), primary_key=True))\n'
    '    op.create_index("crates_by_name", "crates", ["name"])'
)
SIZES = (
    'op.add_column("crates", sa.Column("size", sa.Integer(), nullable=False, server_default="1"))\n'
    '    op.create_index("crates_by_size", "crates", ["size"])'
)
BODIES = [CRATES, SIZES]


def a_version(folder, revisions, name="depot"):
    """The MetaData of a service that knows so many revisions."""
    folder.mkdir(exist_ok=True)
    for number in range(1, revisions + 1):
        before = f'"{number - 1:04}"' if number > 1 else "None"
        text = REVISION.format(revision=f"{number:04}", before=before, body=BODIES[number - 1])
        (folder / f"{number:04}_depot.py").write_text(text)
    metadata = sa.MetaData()
    columns = [sa.Column("name", sa.Text, primary_key=True), sa.Column("size", sa.Integer)]
    sa.Table("crates", metadata, *columns[:revisions])
    declare(metadata, name, folder)
    return metadata


@pytest.fixture
def old(tmp_path):
    return a_version(tmp_path / "old", 1)


@pytest.fixture
def new(tmp_path):
    return a_version(tmp_path / "new", 2)


@pytest.fixture
def opened(database_url):
    """Opens the database as a version; closed with the test."""
    engines = []

    def open_as(metadata):
        engines.append(open_database(database_url, metadata))
        return engines[-1]

    yield open_as
    for engine in engines:
        engine.dispose()


def tables(engine):
    return set(sa.inspect(engine).get_table_names())


def rows(engine, metadata):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(metadata.tables["crates"]).order_by("name"))]


def put(engine, metadata, name):
    with engine.begin() as connection:
        connection.execute(insert_ignore(metadata.tables["crates"], {"name": name}, ["name"]))


def test_an_empty_database_gets_every_revision(opened, new):
    """One open, and one line that says so."""
    with capture_logs() as logs:
        engine = opened(new)

    assert revisions_in(engine) == {"depot": "0002"}
    assert logs == [{"event": "database.upgraded", "log_level": "info", "depot": "0002"}]


def test_a_database_that_is_up_to_date_is_asked_one_thing(opened, new):
    """A start costs nothing, and no lock."""
    opened(new)
    asked = []

    def note(*given):
        asked.append(given[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    with capture_logs() as logs:
        opened(new)
    sa.event.remove(sa.Engine, "before_cursor_execute", note)

    assert [statement.partition(" ")[0] for statement in asked if "BEGIN" not in statement] == ["SELECT"]
    assert "BEGIN IMMEDIATE" not in asked
    assert logs == []


def test_a_newer_version_adds_and_keeps_what_is_there(opened, old, new):
    """Rows of the older version have what the newer one gives them."""
    put(opened(old), old, "a")

    engine = opened(new)

    assert rows(engine, new) == [("a", 1)]
    assert revisions_in(engine) == {"depot": "0002"}


def test_an_older_version_runs_on_after_a_newer_one(opened, old, new):
    """It reads, writes, and starts again; it takes nothing back, and says once that it is the older one."""
    running = opened(old)
    newer = opened(new)
    put(running, old, "a")

    with capture_logs() as logs:
        again = [opened(old) for _ in range(2)]
    put(again[0], old, "b")

    assert rows(running, old) == [("a",), ("b",)]
    assert rows(newer, new) == [("a", 1), ("b", 1)]
    assert revisions_in(newer) == {"depot": "0002"}
    assert logs == [
        {"event": "database.newer", "log_level": "info", "lineage": "depot", "known": "0001", "revision": "0002"}
    ]


def test_lineages_of_one_database_know_nothing_of_each_other(opened, old, new, tmp_path):
    """One may be newer than this version while the other is older."""
    yard = a_version(tmp_path / "yard", 1, name="yard")
    (tmp_path / "yard" / "0001_depot.py").write_text(
        REVISION.format(revision="0001", before="None", body='op.create_table("yard", sa.Column("name", sa.Text()))')
    )
    opened(new)
    declare(old, "yard", tmp_path / "yard")

    engine = opened(old)

    assert yard.tables
    assert revisions_in(engine) == {"depot": "0002", "yard": "0001"}
    assert tables(engine) >= {"crates", "yard"}


def _open_when_all_are_there(url, folder, start):
    metadata = sa.MetaData()
    declare(metadata, "depot", Path(folder))
    start.wait()
    open_database(url, metadata).dispose()


def test_any_number_of_processes_may_upgrade_at_once(database_url, opened, new, tmp_path):
    """Each ends well, and the revisions have run once."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    given = (database_url, str(tmp_path / "new"), start)
    processes = [context.Process(target=_open_when_all_are_there, args=given) for _ in range(3)]

    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 3
    assert revisions_in(opened(new)) == {"depot": "0002"}


def _die_at(url, folder, fatal):
    def die(*given):
        if fatal in given[2]:
            os.kill(os.getpid(), 9)

    sa.event.listen(sa.Engine, "before_cursor_execute", die)
    metadata = sa.MetaData()
    declare(metadata, "depot", Path(folder))
    open_database(url, metadata)


@pytest.mark.parametrize("fatal", ["CREATE INDEX crates_by_name", "CREATE INDEX crates_by_size"])
def test_a_process_that_is_killed_in_an_upgrade_leaves_nothing_half_done(database_url, opened, new, tmp_path, fatal):
    """Not even the first of two revisions; the next process does it all."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_die_at, args=(database_url, str(tmp_path / "new"), fatal))
    process.start()
    process.join()
    empty = sa.MetaData()

    left = opened(empty)
    assert process.exitcode == -9
    assert tables(left) == set()

    assert revisions_in(opened(new)) == {"depot": "0002"}


def test_an_upgrade_that_fails_leaves_the_older_version_running(opened, old, new, tmp_path):
    """It is undone as a whole and says why; the next start tries again."""
    put(opened(old), old, "a")
    path = tmp_path / "new" / "0002_depot.py"
    good = path.read_text()
    path.write_text(good + '    op.execute("SELECT 1 FROM nowhere")\n')

    with pytest.raises(sa.exc.DBAPIError, match="nowhere"):
        opened(new)
    assert revisions_in(opened(old)) == {"depot": "0001"}
    assert rows(opened(old), old) == [("a",)]

    path.write_text(good)
    assert rows(opened(new), new) == [("a", 1)]
