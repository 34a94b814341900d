"""Generate proto/gen from the contracts: messages, stubs, servicers and their types.

`--check` changes nothing and fails when the committed files are not what the contracts give.
The versions that requirements.lock pins decide the output.
"""

import importlib.resources
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROTO = Path(__file__).resolve().parent
GENERATED = PROTO / "gen"
CONTRACTS = ("waybill", "externalscaler")
# google/longrunning/operations.proto, which googleapis-common-protos ships under another file name.
COMPILE_ONLY = "third_party"


def main(arguments: Sequence[str]) -> int:
    """Write proto/gen, or compare with it."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        if "--check" not in arguments:
            _replace(GENERATED, fresh)
            return 0
        stale = sorted(_difference(GENERATED, fresh))
    for name in stale:
        sys.stderr.write(f"stale: proto/gen/{name} (run `make proto`)\n")
    return 1 if stale else 0


def generate(target: Path) -> None:
    """Write the code for every contract into an empty folder."""
    plugins = (f"--plugin={name}={_program(name)}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"))
    outputs = (f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc"))
    protoc(PROTO, *plugins, *outputs, "--mypy_opt=quiet", "--mypy_grpc_opt=quiet")
    for path in target.rglob("*_pb2_grpc.py*"):
        if not _declares_service(path):
            path.unlink()


def protoc(root: Path, *options: str) -> None:
    """Run the compiler over every contract below root, with all that they import on its path."""
    packages = Path(str(importlib.resources.files("google.rpc") / "status.proto")).parents[2]
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    include = (f"-I{path}" for path in (root, root / COMPILE_ONLY, packages, well_known))
    command = [sys.executable, "-m", "grpc_tools.protoc", *include, *options, *contracts(root)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("generate: the compiler refused the contracts")


def contracts(root: Path) -> list[str]:
    """The .proto files that code is generated for, relative to root, sorted."""
    found = (path for folder in CONTRACTS for path in (root / folder).rglob("*.proto"))
    return sorted(path.relative_to(root).as_posix() for path in found)


def _declares_service(path: Path) -> bool:
    return re.search(r"^class \w+Servicer\b", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def _program(name: str) -> str:
    beside_python = shutil.which(name, path=Path(sys.executable).parent)
    return beside_python or name


def _difference(committed: Path, fresh: Path) -> set[str]:
    before, after = _contents(committed), _contents(fresh)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*_pb2*") if path.suffix in {".py", ".pyi"})
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _replace(committed: Path, fresh: Path) -> None:
    content = _contents(fresh)
    for name in _difference(committed, fresh):
        path = committed / name
        if name in content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[name])
        else:
            path.unlink()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
