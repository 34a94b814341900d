"""Lint the contracts with buf, and compare them with the last release for breaking changes.

Both work on images that the protobuf compiler makes, so nothing is fetched.
"""

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from generate import PROTO, protoc

SETTINGS = PROTO / "buf.yaml"


def main() -> int:
    """Run both checks; the second needs a release of a service, whose tag holds all contracts of its time."""
    with tempfile.TemporaryDirectory() as folder:
        now = _image(PROTO, Path(folder, "now.binpb"))
        failed = _buf("lint", str(now))
        tag = _last_release()
        if tag is None:
            sys.stdout.write("protos: no release tag yet, nothing to compare with\n")
            return failed
        released = _image(_contracts_at(tag, Path(folder, "released")), Path(folder, "released.binpb"))
        return _buf("breaking", str(now), "--against", str(released)) or failed


def _image(contracts: Path, target: Path) -> Path:
    protoc(contracts, "--include_imports", "--include_source_info", f"--descriptor_set_out={target}")
    return target


def _buf(command: str, *arguments: str) -> int:
    buf = shutil.which("buf", path=Path(sys.executable).parent) or "buf"
    return subprocess.run([buf, command, *arguments, "--config", str(SETTINGS)], check=False).returncode


def _last_release() -> str | None:
    command = ["git", "describe", "--tags", "--abbrev=0", "--match", "*/v[0-9]*"]
    described = subprocess.run(command, cwd=PROTO.parent, capture_output=True, text=True, check=False)
    return described.stdout.strip() or None


def _contracts_at(tag: str, target: Path) -> Path:
    command = ["git", "archive", tag, "proto"]
    archive = subprocess.run(command, cwd=PROTO.parent, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(target, filter="data")
    return target / "proto"


if __name__ == "__main__":
    raise SystemExit(main())
