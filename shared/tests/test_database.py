"""The database: several processes at once, on SQLite; the same statements on PostgreSQL."""

import multiprocessing
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from chassis.database import insert_ignore, open_database, upsert
from chassis.lineages import declare
from sqlalchemy.dialects import postgresql, sqlite

METADATA = sa.MetaData()
declare(METADATA, "depot", Path(__file__).with_name("depot"))
CRATES = sa.Table(
    "crates",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)
BOXES = sa.Table("boxes", METADATA, sa.Column("crate", sa.ForeignKey("crates.name"), nullable=False))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/new/folder/depot.db"


@pytest.fixture
def engine(url):
    engine = open_database(url, METADATA)
    yield engine
    engine.dispose()


def crates(engine):
    with engine.connect() as connection:
        return dict(connection.execute(sa.select(CRATES.c.name, CRATES.c.count)).all())


def test_missing_tables_and_folders_are_created(engine):
    """A service starts on an empty machine."""
    assert crates(engine) == {}


def test_sqlite_is_opened_for_several_writers(engine):
    """WAL, five seconds of patience, and foreign keys that hold."""
    with engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys")
        ]
    assert pragmas == ["wal", 5_000, 1]

    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.insert(BOXES).values(crate="nowhere"))


def _open_and_count(url, start):
    start.wait()
    engine = open_database(url, METADATA)
    for _ in range(20):
        with engine.begin() as connection:
            count = connection.execute(sa.select(CRATES.c.count)).scalar() or 0
            connection.execute(upsert(CRATES, {"name": "a", "count": count + 1}, keys=["name"], update=["count"]))
    engine.dispose()


def test_processes_may_open_and_write_at_once(url):
    """Four processes create the tables together, and none of their read-then-write is lost."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    processes = [context.Process(target=_open_and_count, args=(url, start)) for _ in range(4)]

    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    assert crates(open_database(url, METADATA)) == {"a": 80}


def test_a_reader_does_not_wait_for_a_writer(engine):
    """A list is served while a worker writes; it reads what was committed before."""
    with engine.begin() as writer:
        writer.execute(sa.insert(CRATES).values(name="a", count=1))

        assert crates(engine) == {}

    assert crates(engine) == {"a": 1}


def test_a_writer_waits_for_a_writer(engine):
    """A second writer gets its turn when the first has committed."""
    begun, done = threading.Event(), threading.Event()

    def write():
        begun.set()
        with engine.begin() as connection:
            connection.execute(sa.update(CRATES).values(count=CRATES.c.count + 1))
        done.set()

    with engine.begin() as connection:
        second = threading.Thread(target=write)
        second.start()
        begun.wait()
        connection.execute(sa.insert(CRATES).values(name="a", count=1))
        assert not done.is_set()
    second.join()

    assert crates(engine) == {"a": 2}


def test_what_is_there_is_left_alone_or_updated(database_url):
    """insert_ignore keeps the old row and says how many were new; upsert takes or computes the new one."""
    engine = open_database(database_url, METADATA)
    with engine.begin() as connection:
        assert connection.execute(insert_ignore(CRATES, {"name": "a", "count": 1}, ["name"])).rowcount == 1
        rows = [{"name": "a", "count": 9}, {"name": "b", "count": 2}]
        assert connection.execute(insert_ignore(CRATES, rows, ["name"])).rowcount == 1
        connection.execute(upsert(CRATES, {"name": "b", "count": 5}, keys=["name"], update=["count"]))
        added = upsert(
            CRATES,
            {"name": "a", "count": 10},
            keys=["name"],
            update=lambda new: {"count": CRATES.c.count + new["count"]},
        )
        connection.execute(added)

    assert crates(engine) == {"a": 11, "b": 5}
    engine.dispose()


def test_both_databases_get_the_same_statement():
    """PostgreSQL and SQLite share the syntax of ON CONFLICT."""
    statement = upsert(CRATES, {"name": "a", "count": 1}, keys=["name"], update=["count"])

    clauses = {
        str(statement.compile(dialect=dialect)).partition("ON CONFLICT")[2]
        for dialect in (sqlite.dialect(), postgresql.dialect())
    }

    assert clauses == {" (name) DO UPDATE SET count = excluded.count"}
