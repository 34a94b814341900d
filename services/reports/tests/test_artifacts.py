"""Report files: whole or not at all, checked when they are read."""

import hashlib
import os
from datetime import UTC, datetime, timedelta

import pytest
from reports_service.artifacts import CHUNK_BYTES, ArtifactLost, Artifacts

CONTENT = os.urandom(150_000)


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "not-there-yet")


def files(artifacts):
    return [path for path in artifacts.folder.rglob("*") if path.is_file()]


def test_a_file_is_read_as_it_was_written(artifacts):
    """With its size and SHA-256, under a path that begins with the report's id."""
    artifact = artifacts.write("01989f6e-7f3a", "pdf", CONTENT)

    assert b"".join(artifacts.chunks(artifact)) == CONTENT
    assert artifact.size_bytes == 150_000
    assert artifact.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert artifact.location == f"3a/01989f6e-7f3a-{artifact.sha256[:16]}.pdf"


def test_a_chunk_has_at_most_64_kib(artifacts):
    """The contract's limit."""
    artifact = artifacts.write("r1", "pdf", CONTENT)

    assert [len(chunk) for chunk in artifacts.chunks(artifact)] == [CHUNK_BYTES, CHUNK_BYTES, 150_000 - 2 * CHUNK_BYTES]


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES, 149_999, 150_000])
def test_a_file_is_read_from_any_byte_on(artifacts, offset):
    """A download that broke off goes on where it was."""
    artifact = artifacts.write("r1", "pdf", CONTENT)

    assert b"".join(artifacts.chunks(artifact, offset)) == CONTENT[offset:]


def test_two_attempts_do_not_write_over_each_other(artifacts):
    """What the first one's row says stays true."""
    first = artifacts.write("r1", "pdf", b"first")
    second = artifacts.write("r1", "pdf", b"second")

    assert b"".join(artifacts.chunks(first)) == b"first"
    assert b"".join(artifacts.chunks(second)) == b"second"


def test_the_same_content_is_one_file(artifacts):
    """Written twice, there once, and no draft is left."""
    artifacts.write("r1", "pdf", CONTENT)
    artifacts.write("r1", "pdf", CONTENT)

    assert len(files(artifacts)) == 1


def test_a_write_that_fails_leaves_nothing(artifacts, monkeypatch):
    """A disk that is full, for one."""

    def full(_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        artifacts.write("r1", "pdf", CONTENT)

    assert files(artifacts) == []


def test_a_missing_file_is_an_error(artifacts):
    """Not an empty report."""
    artifact = artifacts.write("r1", "pdf", CONTENT)
    artifacts.remove(artifact.location)

    with pytest.raises(ArtifactLost, match="missing"):
        next(artifacts.chunks(artifact))


def test_a_file_of_another_size_is_an_error_before_the_first_byte(artifacts):
    """Nobody downloads half a report for a whole one."""
    artifact = artifacts.write("r1", "pdf", CONTENT)
    (artifacts.folder / artifact.location).write_bytes(CONTENT[:-1])

    with pytest.raises(ArtifactLost, match="149999 bytes; 150000"):
        next(artifacts.chunks(artifact))


def test_a_file_of_other_bytes_is_an_error_at_its_end(artifacts):
    """The hash is checked on the way."""
    artifact = artifacts.write("r1", "pdf", CONTENT)
    (artifacts.folder / artifact.location).write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))

    with pytest.raises(ArtifactLost, match="SHA-256"):
        list(artifacts.chunks(artifact))


def test_removing_what_is_gone_is_no_error(artifacts):
    """Two deletes may meet."""
    artifacts.remove("aa/nothing.pdf")


def test_old_files_are_removed_with_a_row_or_without(artifacts):
    """A worker that was killed between file and row leaves a file that nobody names."""
    old = artifacts.folder / artifacts.write("old", "pdf", b"old").location
    new = artifacts.folder / artifacts.write("new", "pdf", b"new").location
    now = datetime.now(UTC)
    os.utime(old, times=((now - timedelta(days=91)).timestamp(),) * 2)

    assert artifacts.remove_older(now - timedelta(days=90)) == 1
    assert files(artifacts) == [new]
