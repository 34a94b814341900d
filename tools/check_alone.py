"""Install one service with its own dependencies and nothing else, and start its check there.

The third-party part comes from requirements.lock with its hashes; the local distributions are
built as wheels, so what a wheel leaves out is missed here first.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from distributions import LOCK, ROOT, Distribution, closure, read_all, third_party

BIN = Path(sys.executable).parent
PROBE = "import importlib.util, sys; sys.exit(any(map(importlib.util.find_spec, sys.argv[1:])))"


def main() -> int:
    """Check the service that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", help="the name of a folder of services/")
    folder = ROOT / "services" / parser.parse_args().service

    local = read_all()
    service = next((each for each in local.values() if each.folder == folder), None)
    if service is None:
        parser.error(f"services/{folder.name} is no distribution")
    needed = closure(service.name, local)
    others = {name for each in local.values() if each not in needed for name in each.import_names}
    with tempfile.TemporaryDirectory() as scratch:
        return _check(service, needed, sorted(others), Path(scratch))


def _check(service: Distribution, needed: list[Distribution], others: list[str], scratch: Path) -> int:
    python = _environment(scratch, third_party(needed, read_all()), _wheels(needed, scratch))
    if _run([python, "-c", PROBE, *others], scratch):
        return _fail(service, f"another service can be imported: one of {', '.join(others)}")
    for name in service.import_names:
        if _run([python, "-m", name, "--check"], scratch):
            return _fail(service, f"python -m {name} --check failed with its own dependencies alone")
    sys.stdout.write(f"{service.name}: stands alone\n")
    return 0


def _wheels(needed: Iterable[Distribution], scratch: Path) -> list[Path]:
    for each in needed:
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
        subprocess.run(
            [*command, "--directory", str(scratch)],
            cwd=each.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return sorted(scratch.glob("*.whl"))


def _environment(scratch: Path, requirements: list[str], wheels: list[Path]) -> str:
    wanted, pinned, python = scratch / "wanted.txt", scratch / "pinned.txt", scratch / "venv/bin/python"
    wanted.write_text("\n".join(requirements), encoding="utf-8")
    _uv("venv", "--python", sys.executable, str(scratch / "venv"))
    options = ("--constraint", str(LOCK), "--generate-hashes", "--python", str(python))
    _uv("pip", "compile", str(wanted), "--output-file", str(pinned), *options)
    _uv("pip", "install", "--require-hashes", "--requirement", str(pinned), "--python", str(python))
    _uv("pip", "install", "--no-deps", "--python", str(python), *map(str, wheels))
    return str(python)


def _uv(*arguments: str) -> None:
    subprocess.run([str(BIN / "uv"), "--quiet", *arguments], check=True, stdout=subprocess.DEVNULL)


def _run(command: list[str], scratch: Path) -> int:
    state = {"WAYBILL_STATE_DIR": str(scratch / "state"), "PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, cwd=scratch, env={**os.environ, **state}, check=False).returncode


def _fail(service: Distribution, reason: str) -> int:
    sys.stderr.write(f"{service.name}: {reason}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
