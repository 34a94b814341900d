"""What is refused in a revision because an older version runs on beside it."""

import pytest
from chassis.testing.rollover import objections

CRATES = "CREATE TABLE crates ( name TEXT NOT NULL, PRIMARY KEY (name) )"


@pytest.mark.parametrize(
    "statements",
    [
        [CRATES],
        ["CREATE TABLE IF NOT EXISTS crates ( name TEXT )"],
        ["CREATE INDEX crates_by_size ON crates (size)"],
        ["CREATE INDEX IF NOT EXISTS crates_by_size ON crates (size) WHERE size > 0"],
        ["ALTER TABLE crates ADD COLUMN size BIGINT"],
        ["ALTER TABLE crates ADD COLUMN size BIGINT DEFAULT '0' NOT NULL"],
        ["ALTER TABLE crates ADD COLUMN size BIGINT", "UPDATE crates SET size=0", "CREATE INDEX a ON crates (size)"],
        [CRATES, "CREATE UNIQUE INDEX crates_by_number ON crates (number)"],
    ],
)
def test_what_adds_is_harmless(statements):
    """An older version neither reads it nor needs to write it."""
    assert objections(statements) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE crates",
        "DROP INDEX crates_by_size",
        "ALTER TABLE crates DROP COLUMN size",
        "ALTER TABLE crates RENAME TO boxes",
        "ALTER TABLE crates RENAME COLUMN size TO volume",
        "ALTER TABLE crates RENAME size TO volume",
        "ALTER TABLE crates ALTER COLUMN size TYPE BIGINT",
        "ALTER TABLE crates ALTER COLUMN size SET NOT NULL",
        "ALTER TABLE crates ALTER COLUMN size DROP DEFAULT",
        "ALTER TABLE crates ADD COLUMN size BIGINT NOT NULL",
        "ALTER TABLE crates ADD COLUMN number BIGINT UNIQUE",
        "ALTER TABLE crates ADD COLUMN size BIGINT CHECK (size > 0)",
        "ALTER TABLE crates ADD CONSTRAINT unique_number UNIQUE (number)",
        "CREATE UNIQUE INDEX crates_by_number ON crates (number)",
        "DELETE FROM crates",
        "TRUNCATE crates",
        "CREATE TRIGGER watch AFTER INSERT ON crates",
    ],
)
def test_what_takes_away_changes_or_binds_is_not(statement):
    """An older version still reads it, or writes rows that it refuses."""
    assert objections([CRATES.replace("crates", "others"), statement]) == [statement]
