"""Delivery into a Maildir (https://cr.yp.to/proto/maildir.html): exactly one file for an effect."""

from __future__ import annotations

import os
from pathlib import Path

from chassis.errors import TransientError


class Maildir:
    """A Maildir of this machine. The file's name is derived from the effect, so a second delivery finds the first.

    A reader may have moved the file from `new` to `cur` meanwhile; one that was deleted is written again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def deliver(self, effect_id: str, sender: str, recipient: str, content: bytes) -> str:
        """Returns the path of the mail within the Maildir. Raises TransientError when it cannot be written."""
        del sender, recipient
        try:
            for part in ("tmp", "new", "cur"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            return self._read(effect_id) or self._write(effect_id, content)
        except OSError as error:
            raise TransientError(f"the Maildir cannot be written: {error}", reason="MAILDIR_UNWRITABLE") from error

    def _write(self, name: str, content: bytes) -> str:
        draft = self.folder / "tmp" / f"{name}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            _write_through(draft, content)
            self._link(draft, name)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(self.folder / "new")
        return self._settled(name)

    def _link(self, draft: Path, name: str) -> None:
        try:
            os.link(draft, self.folder / "new" / name)
        except FileExistsError:
            return

    def _settled(self, name: str) -> str:
        """The one file: a reader may have moved another attempt's to `cur` just before ours was linked."""
        moved = self._read(name)
        if moved:
            (self.folder / "new" / name).unlink(missing_ok=True)
        return moved or f"new/{name}"

    def _read(self, name: str) -> str:
        """Where a reader has put the mail; "" while it lies in `new` or nowhere."""
        found = next((self.folder / "cur").glob(f"{name}*"), None)
        return f"cur/{found.name}" if found else ""


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
