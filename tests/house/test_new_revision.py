"""`make migration`: what it writes, and what it refuses."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from chassis.database import open_database, revisions_in
from chassis.lineages import declare, lineages_of

TOOL = Path(__file__).resolve().parents[2] / "tools" / "new_revision.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("new_revision", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_depot(folder, *columns):
    metadata = sa.MetaData()
    sa.Table("crates", metadata, sa.Column("name", sa.Text, primary_key=True), *columns)
    declare(metadata, "depot", folder)
    return metadata


def test_what_a_table_has_gained_becomes_the_next_revision(tool, tmp_path):
    """The first makes the table, the second what the code knows more of; then nothing is missing."""
    (folder := tmp_path / "revisions").mkdir()
    versions = [a_depot(folder), a_depot(folder, sa.Column("size", sa.Integer, index=True))]

    for metadata, message in zip(versions, ("make crates", "Note the size."), strict=True):
        (lineage,) = lineages_of(metadata)
        tool.write(lineage, message, tool.proposed(metadata))

    assert [path.name for path in sorted(folder.glob("*.py"))] == ["0001_make_crates.py", "0002_note_the_size.py"]
    assert tool.proposed(versions[1]) is None
    engine = open_database(f"sqlite:///{tmp_path}/depot.db", versions[1])
    assert revisions_in(engine) == {"depot": "0002"}
    assert {index["name"] for index in sa.inspect(engine).get_indexes("crates")} == {"ix_crates_size"}
    engine.dispose()


@pytest.mark.parametrize(
    ("name", "message", "refusal"),
    [
        ("nobody", "x", "'nobody' is not one of archive, dashboard, "),
        ("reports", " .", "say what the revision does: MESSAGE=..."),
        ("reports", "x", "the tables of reports are those that its revisions build"),
    ],
)
def test_what_makes_no_revision_is_refused_and_said_why(name, message, refusal):
    """Nothing is written then."""
    told = subprocess.run([sys.executable, str(TOOL), name, message], capture_output=True, text=True, check=False)

    assert told.returncode == 2
    assert f"migration: {refusal}" in told.stderr
