"""Report files: written whole or not at all, found again by what the report's row says, read from any byte on."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import grpc
from chassis.errors import WaybillError

CHUNK_BYTES = 64 << 10


class ArtifactLost(WaybillError):
    """The report's file is missing or is not what was written."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "ARTIFACT_LOST"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that has been written; `location` is its path inside the folder."""

    location: str
    size_bytes: int
    sha256: str


class Artifacts:
    """A folder of report files that any number of processes may share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, report_id: str, extension: str, content: bytes) -> Artifact:
        """Store a report's file durably.

        The name carries the content's hash: two attempts that render at the same time write two
        files, and neither puts other bytes under the name that the row of the first one holds.
        """
        digest = hashlib.sha256(content).hexdigest()
        location = f"{report_id[-2:]}/{report_id}-{digest[:16]}.{extension}"
        _write_whole(self.folder / location, content)
        return Artifact(location, len(content), digest)

    def chunks(self, artifact: Artifact, offset: int = 0) -> Iterator[bytes]:
        """The file's bytes from the offset on, at most 64 KiB at a time.

        Raises ArtifactLost when the file is missing, has another size or, read from its
        beginning, another hash; the latter only at its end.
        """
        digest = hashlib.sha256()
        with self._open(artifact) as file:
            file.seek(offset)
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
        if offset == 0 and digest.hexdigest() != artifact.sha256:
            raise ArtifactLost(f"{artifact.location} is not what was written: its SHA-256 is {digest.hexdigest()}")

    def remove(self, location: str) -> None:
        """Delete a file; one that is gone already is no error."""
        (self.folder / location).unlink(missing_ok=True)

    def remove_older(self, before: datetime) -> int:
        """Delete what was written before that, files that no row names included; returns how many."""
        removed = 0
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _open(self, artifact: Artifact) -> Iterator[BinaryIO]:
        try:
            file = (self.folder / artifact.location).open("rb")
        except FileNotFoundError as error:
            raise ArtifactLost(f"{artifact.location} is missing") from error
        with file:
            size = os.fstat(file.fileno()).st_size
            if size != artifact.size_bytes:
                raise ArtifactLost(f"{artifact.location} has {size} bytes; {artifact.size_bytes} were written")
            yield file


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid4().hex}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)
    _sync_folder(path.parent.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last: POSIX keeps directory entries apart from the files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
